package block

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// attributes is everything that a block says of an event, but its body.
func attributes(t *testing.T, b *Block, i int, body []byte) string {
	t.Helper()
	id, err := b.IDOf(i, body)
	names := func(list []uint32) (out []string) {
		for _, x := range list {
			out = append(out, b.Names[x])
		}
		return out
	}
	return fmt.Sprintln(b.Seq(i), id, err != nil, b.Names[b.Topic[i]], b.Names[b.CategoryOf(i)], b.Time[i], b.Names[b.Source[i]], names(b.UsersOf(i)),
		names(b.PackagesOf(i)), b.Names[b.Agent[i]], b.Flags[i], b.ReceivedOf(i))
}

// pickedAlike picks events of a header and compares them with those of the block that it decodes to.
func pickedAlike(t *testing.T, b *Block, header []byte, places []int) {
	t.Helper()
	p, err := Pick(header, places)
	if err != nil {
		t.Fatalf("%v of %d: %v", places, b.Len(), err)
	}
	if p.Len() != len(places) || p.First != b.First || p.Upto != b.Upto || p.Backfill != b.Backfill || p.BodyBytes != b.BodyBytes {
		t.Fatalf("%d events, %+v", p.Len(), p)
	}
	body := []byte(strings.Repeat("b", 1<<10)) // IDs are cut out of it where they stand in a body
	for k, at := range places {
		if got, want := attributes(t, p, k, body), attributes(t, b, at, body); got != want {
			t.Fatalf("event %d:\n got %s\nwant %s", at, got, want)
		}
	}
}

func upto(n int) (out []int) {
	for i := range n {
		out = append(out, i)
	}
	return out
}

func TestPick_GivesWhatDecodeHeaderGives(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{1, 7, 300, 1024} {
		whole := build(sample(r, n), 42)
		keep := make([]bool, n)
		for i := range keep {
			keep[i] = i == 0 || r.IntN(3) > 0
		}
		holes, err := whole.Keep(keep)
		if err != nil {
			t.Fatal(err)
		}
		whole.Received = nil
		for left := n; left > 0; {
			run := Run{N: uint32(1 + r.IntN(left)), At: r.Int64()}
			whole.Received, left = append(whole.Received, run), left-int(run.N)
		}
		for _, b := range []*Block{whole, holes} {
			for _, hashes := range []bool{true, false} {
				header := b.AppendHeader(nil, hashes)
				pickedAlike(t, b, header, nil)
				pickedAlike(t, b, header, upto(b.Len()))
				for range 20 {
					some := r.Perm(b.Len())[:r.IntN(min(b.Len(), 20))]
					slices.Sort(some)
					pickedAlike(t, b, header, some)
				}
			}
		}
	}
}

func TestPick_RefusesWhatIsNotThere(t *testing.T) {
	header := build(sample(rand.New(rand.NewPCG(7, 8)), 40), 9).AppendHeader(nil, true)
	for _, places := range [][]int{{40}, {-1}, {3, 3}, {4, 3}} {
		if _, err := Pick(header, places); err == nil {
			t.Errorf("%v: no error", places)
		}
	}
	for i := range header {
		bad := slices.Clone(header)
		bad[i] ^= 0x20
		if _, err := Pick(bad, []int{1}); err == nil {
			t.Fatalf("flip at %d went unnoticed", i)
		}
	}
	for i := range len(header) - 4 { // and where the checksum doesn't tell
		bad := sealed(header[:i])
		if _, err := Pick(bad, []int{1}); err == nil {
			t.Fatalf("cut at %d went unnoticed", i)
		}
	}
}

func TestPick_RefusesANumberBeyondItsLimit(t *testing.T) {
	for name, d := range map[string][]byte{"one byte": {1, 101, 1}, "two bytes": {1, 200, 1, 1}, "too few": {1}} {
		p := picker{reader: reader{d: d}, places: []int{2}, n: 3}
		if _, _, total := p.sums(false, 100); p.err == "" || total != 0 {
			t.Errorf("%s: taken, sum %d", name, total)
		}
	}
}
