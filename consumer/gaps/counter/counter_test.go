package counter

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func address() Address { return Address{"bus", "host:1"} }

// told is what a ledger would hold after some looks.
type told struct {
	missing, arrived int64
	losses           []Loss
	withdrawn        bool
}

func (x *told) look(w *Watch, last bool) {
	for _, r := range w.Look([]Address{address()}, last) {
		if r.Withdrawn {
			*x = told{withdrawn: true}
		}
		for _, l := range r.Lost {
			x.missing += int64(l.Missing)
			x.losses = append(x.losses, l)
		}
		for _, l := range r.Arrived {
			x.arrived += int64(l.Missing)
		}
	}
}

// TestLane says of sequences of numbers what is found: a range is 33-99, R a message that was refused, @ another peer at
// the address, | a look.
func TestLane(t *testing.T) {
	for name, c := range map[string]struct{ numbers, want string }{
		"all come":                             {"1-100", ""},
		"one is missing":                       {"1-40 42-50", "1"},
		"where it began doesn't matter":        {"1000-1040 1043-1050", "2"},
		"too few to judge":                     {"1-31 40-60", ""},
		"just enough to judge":                 {"1-32 40-60", "7"},
		"several are missing":                  {"1-40 42-50 61-70 72", "1 10 1"},
		"one comes late":                       {"1-40 42 41 43-50", ""},
		"one comes late after it was told of":  {"1-40 42-50 | | 41 51-60", "1 arrived 1"},
		"one of three comes late":              {"1-40 44-50 42 51", "1 1"},
		"late and twice":                       {"1-40 44-50 42 42 42 51", "1 1"},
		"one comes twice":                      {"1-40 40 41-50 45 51-60", ""},
		"old ones come twice":                  {"1-40 7 41 8 42-60 3 4 61-70", ""},
		"a restart":                            {"1-40 1-50", ""},
		"a restart of which the first is lost": {"1-40 3-50", ""},
		"a restart, then a loss":               {"1-40 1-20 22-30", "1"},
		"a loss, then a restart":               {"1-40 45-50 1-50", "4"},
		"restarts again and again":             {"1-40 1 1-2 1 1-3 4-9 1-70", ""},
		"refused ones were not lost":           {"1-40 R 42-50 R R 53-60", ""},
		"more are missing than refused":        {"1-40 R 44-50", "2"},
		"a refused one long ago excuses none":  {"1-40 R 41-50 52-60", "1"},
		"without a number":                     {"1-40 0 0 41-50 0 51", ""},
		"another peer at the address":          {"1-40 @ 90-200", ""},
		"another peer, after a loss":           {"1-40 45-50 @ 90-200", "4"},
		"two in turn":                          {mix(200, 1, 1000), ""},
		"one after a run of the other":         {"1-100 " + mix(200, 101, 1000), "withdrawn"},
		"a lower one after a run":              {"1001-1100 " + mix(200, 1101, 7), "withdrawn"},
		"long runs in turn":                    {"1-100 500-600 101-200 601-700 201-300", "withdrawn"},
		"long runs in turn, the first higher":  {"500-600 1-100 601-700 101-200 701-800 201-300", "withdrawn"},
		"told of before it was known better":   {"1-100 500-501 | | 101-109", "withdrawn"},
		"huge numbers":                         {"9223372036854775700-9223372036854775806 9223372036854775807 5 6", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w, x := NewWatch(), told{}
			l, at, peers := w.Lane(address()), int64(1e15), 0
			for word := range strings.FieldsSeq(c.numbers) {
				var from, to int64
				switch n, _ := fmt.Sscanf(word, "%d-%d", &from, &to); {
				case word == "|":
					x.look(w, false)
				case word == "R":
					l.see(Refused, 0)
				case word == "@":
					peers++
					l.from(fmt.Sprint(peers))
				case n == 0:
					t.Fatalf("what is %q?", word)
				case n == 1:
					to = from
					fallthrough
				default:
					if peers == 0 {
						peers++
						l.from("1")
					}
					for i := range uint64(to-from) + 1 {
						at += 1e6
						l.see(from+int64(i), at)
					}
				}
			}
			x.look(w, true)
			var got []string
			for _, loss := range x.losses {
				got = append(got, fmt.Sprint(loss.Missing))
			}
			if x.arrived > 0 {
				got = append(got, fmt.Sprint("arrived ", x.arrived))
			}
			if x.withdrawn {
				got = append(got, "withdrawn")
			}
			if text := strings.Join(got, " "); text != c.want {
				t.Errorf("%s: found %q, want %q", c.numbers, text, c.want)
			}
		})
	}
}

// mix writes two runs in turn.
func mix(n int, a, b int) string {
	var s strings.Builder
	for i := range n {
		fmt.Fprintf(&s, "%d %d ", a+i, b+i)
	}
	return s.String()
}

// TestLane_WhenItWas: a loss lies between the message before and the one after, whichever clock is ahead.
func TestLane_WhenItWas(t *testing.T) {
	for name, c := range map[string]struct{ before, after, from, to int64 }{
		"in order":       {100_500_000, 107_200_000, 100, 108},
		"one second":     {100_100_000, 100_200_000, 100, 101},
		"clock set back": {107_000_000, 100_000_000, 100, 108},
	} {
		w := NewWatch()
		l := w.Lane(address())
		for i := range int64(40) {
			l.see(i+1, c.before)
		}
		l.see(50, c.after)
		var x told
		x.look(w, true)
		if !slices.Equal(x.losses, []Loss{{c.from, c.to, 9}}) {
			t.Errorf("%s: %+v", name, x.losses)
		}
	}
}

func TestWatch_AHoleIsToldOfAtTheSecondLook(t *testing.T) {
	w, x := NewWatch(), told{}
	l := w.Lane(address())
	for i := range int64(40) {
		l.see(i+1, 0)
	}
	l.see(50, 0)
	if x.look(w, false); x.missing != 0 {
		t.Error("told of at once")
	}
	if x.look(w, false); x.missing != 9 {
		t.Errorf("%d are told of", x.missing)
	}
	if x.look(w, false); x.missing != 9 {
		t.Error("told of again")
	}
	if !w.Trusted(address()) || w.Trusted(Address{"bus", "other"}) {
		t.Error("whom it trusts")
	}
	l.see(60, 0)
	if reports := w.Look(nil, false); len(reports) != 1 || reports[0].Lost[0].Missing != 9 || len(w.lanes) != 0 {
		t.Errorf("of an address that has gone: %+v", reports)
	}
	w.Judge(false)
	if w.Lane(address()) != nil {
		t.Error("an address is judged of which only some topics are received")
	}
	w.Judge(true)
	if w.Lane(address()) == nil {
		t.Error("nothing is judged again")
	}
}

// TestLane_OnePublisher: whatever is lost between two that come is found, and nothing else.
func TestLane_OnePublisher(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		w, x := NewWatch(), told{}
		l := w.Lane(address())
		lossy := r.Float64() * 0.4
		var lost, pending int64
		n, restarts := int64(1e6), int64(0)
		give := func(k int64) {
			for range k {
				n++
				l.see(n, n*1e5)
			}
		}
		give(trustAfter)
		for range 400 {
			switch at := r.IntN(400); {
			case at < 10:
				x.look(w, false)
			case at < 20 && pending == 0: // twice
				l.see(n, n*1e5)
			case at == 20 && pending == 0 && restarts < 9: // of which the first come; no life gets as far as the one before
				restarts++
				n = 1e6 - restarts*1e5
				give(restartAfter)
			default:
				if r.Float64() < lossy {
					k := 1 + r.Int64N(30)
					n, pending = n+k, pending+k
					continue
				}
				give(1)
				lost, pending = lost+pending, 0
			}
		}
		x.look(w, true)
		if x.withdrawn {
			t.Errorf("seed %d: one publisher is taken for several", seed)
		}
		if x.missing != lost || x.arrived != 0 {
			t.Errorf("seed %d: %d are found missing, %d are", seed, x.missing, lost)
		}
	}
}

// TestLane_LateAndTwice: where all come in the end, nothing is missing in the end.
func TestLane_LateAndTwice(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		w, x := NewWatch(), told{}
		l := w.Lane(address())
		var held []int64
		for n := int64(1); n < 3000; n++ {
			switch {
			case n > trustAfter && len(held) < 5 && r.IntN(60) == 0:
				held = append(held, n)
				continue
			case r.IntN(100) == 0:
				l.see(1+r.Int64N(n), n*1e5) // or what is held: it isn't any more
			}
			l.see(n, n*1e5)
			if len(held) > 0 && r.IntN(20) == 0 {
				i := r.IntN(len(held))
				l.see(held[i], n*1e5)
				held = slices.Delete(held, i, i+1)
			}
			if r.IntN(50) == 0 {
				x.look(w, false)
			}
		}
		for _, n := range held {
			l.see(n, 3e8)
		}
		x.look(w, true)
		if x.missing != x.arrived {
			t.Errorf("seed %d: %d are found missing though all came; %d of them are told to have arrived", seed, x.missing, x.arrived)
		}
	}
}

// TestLane_SeveralPublishers: behind a relay nothing is found missing in the end, however the publishers take turns.
func TestLane_SeveralPublishers(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		w, x := NewWatch(), told{}
		l := w.Lane(address())
		next := make([]int64, 2+r.IntN(6))
		for i := range next {
			next[i] = r.Int64N(5000)
		}
		burst := 1 + r.IntN(200)
		for range 300 * len(next) {
			i := r.IntN(len(next))
			for range 1 + r.IntN(burst) {
				next[i]++
				l.see(next[i], 1e6)
			}
			if r.IntN(30) == 0 {
				x.look(w, false)
			}
		}
		x.look(w, true)
		if x.missing != 0 {
			t.Errorf("seed %d: %d publishers in bursts up to %d: %d are found missing", seed, len(next), burst, x.missing)
		}
	}
}

// FuzzLane: whatever comes, memory is bounded and what is found makes sense.
func FuzzLane(f *testing.F) {
	f.Add([]byte{0, 40, 1, 5, 0, 9, 2, 3, 0, 50})
	f.Add([]byte{0, 255, 1, 255, 3, 1, 0, 1, 2, 200, 4, 0, 5, 0, 0, 100})
	f.Fuzz(func(t *testing.T, b []byte) {
		w := NewWatch()
		l := w.Lane(address())
		n, at, told, arrived := int64(0), int64(0), uint64(0), uint64(0)
		look := func(last bool) {
			for _, r := range w.Look([]Address{address()}, last) {
				if r.Withdrawn {
					told, arrived = 0, 0
				}
				for _, x := range r.Lost {
					if x.From >= x.To || x.Missing == 0 {
						t.Fatalf("a loss of %+v", x)
					}
					told += x.Missing
				}
				for _, x := range r.Arrived {
					arrived += x.Missing
				}
			}
		}
		for i := 0; i+1 < len(b); i += 2 {
			k := int64(b[i+1])
			switch b[i] % 6 {
			case 0:
				for range k {
					n, at = n+1, at+1e5
					l.see(n, at)
				}
			case 1:
				n += k * k * k
			case 2:
				l.see(n-k, at)
			case 3:
				n = k - 3
			case 4:
				look(false)
			case 5:
				l.see(Refused, 0)
			}
			if len(l.holes) > mostHoles || len(l.ends) > mostEnds || len(l.gone) > 256*mostHoles {
				t.Fatalf("%d holes, %d ends, %d to tell", len(l.holes), len(l.ends), len(l.gone))
			}
		}
		look(true)
		if arrived > told {
			t.Fatalf("%d of %d missing have arrived", arrived, told)
		}
	})
}

func BenchmarkLane(b *testing.B) {
	for _, every := range []int{0, 100, 10} {
		b.Run(fmt.Sprintf("a loss every %d", every), func(b *testing.B) {
			l := NewWatch().Lane(address())
			n := int64(0)
			for i := range b.N {
				if n++; every > 0 && i%every == 0 {
					n += 3
				}
				l.see(n, n)
			}
		})
	}
}
