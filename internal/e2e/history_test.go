package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"math"
	"os"
	"slices"
	"sort"
	"strconv"
	"testing"
	"time"
)

// goldenLines gives the lines of all golden streams.
func goldenLines(t testing.TB) (lines [][]byte) {
	t.Helper()
	for _, g := range goldens(t) {
		in, err := os.Open(g.file)
		if err != nil {
			t.Fatal(err)
		}
		unzipped, err := gzip.NewReader(in)
		if err != nil {
			t.Fatal(err)
		}
		scanner := bufio.NewScanner(unzipped)
		for scanner.Buffer(nil, 1<<20); scanner.Scan(); {
			lines = append(lines, bytes.Clone(scanner.Bytes()))
		}
		if err := scanner.Err(); err != nil {
			t.Fatal(err)
		}
		_ = in.Close() // only read
	}
	return lines
}

// history makes up a year of a bus: the messages of the golden streams with ids, times, people and packages of their own.
// Event i is the same whoever asks for it.
type history struct {
	events    int
	begin     time.Time
	span      time.Duration
	templates []historyLine
	users     []float64 // shares added up
	packages  []float64
}

// historyLine is a message: texts, with what is put in between them.
type historyLine struct {
	texts [][]byte
	puts  []byte // 'u' for a user, 'p' for a package, 't' for what may follow the topic, 'n' for a topic that ends with its category
}

const (
	historyUsers, historyPackages = 3000, 8000
	// rareTopics share one event of so many.
	rareTopics, rarely = 10_000, 500
)

func newHistory(t testing.TB, events int, begin time.Time, span time.Duration) *history {
	t.Helper()
	h := &history{events: events, begin: begin, span: span, users: zipfShares(historyUsers), packages: zipfShares(historyPackages)}
	for _, line := range goldenLines(t) {
		_, rest, ok := bytes.Cut(line, []byte(`,"source_name"`))
		if !ok {
			t.Fatalf("not as the generator writes it: %.200s", line)
		}
		x := historyLine{texts: [][]byte{append([]byte(`,"source_name"`), rest...)}}
		for kind, header := range map[byte]string{'u': `"fedora_messaging_user_`, 'p': `"fedora_messaging_rpm_`} {
			if _, name, ok := bytes.Cut(rest, []byte(header)); ok {
				x.cut(name[:bytes.IndexByte(name, '"')], 0, kind)
			}
		}
		topic := rest[bytes.Index(rest, []byte(`"topic":"`))+len(`"topic":"`):]
		topic = topic[:bytes.IndexByte(topic, '"')]
		kind := byte('t')
		if bytes.Count(topic, []byte(".")) < 4 {
			kind = 'n'
		}
		x.cut(append([]byte(`"topic":"`), topic...), -1, kind)
		h.templates = append(h.templates, x)
	}
	return h
}

// zipfShares adds up what the most active ones do.
func zipfShares(n int) (sums []float64) {
	total := 0.0
	for r := 1; r <= n; r++ {
		total += math.Pow(float64(r), -1.3)
		sums = append(sums, total)
	}
	for i := range sums {
		sums[i] /= total
	}
	return sums
}

// cut makes room where a text stands: in its place, or, with keep, behind it.
func (x *historyLine) cut(text []byte, keep int, kind byte) {
	var texts [][]byte
	var puts []byte
	for i, t := range x.texts {
		for {
			at := bytes.Index(t, text)
			if at < 0 {
				break
			}
			end := at
			if keep != 0 {
				end += len(text)
			}
			texts, puts = append(texts, t[:end]), append(puts, kind)
			t = t[at+len(text):]
		}
		texts = append(texts, t)
		if i < len(x.puts) {
			puts = append(puts, x.puts[i])
		}
	}
	x.texts, x.puts = texts, puts
}

// mixed gives numbers that look random, one after the other, from a seed (splitmix64).
func mixed(state *uint64) uint64 {
	*state += 0x9e3779b97f4a7c15
	z := *state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// id is the msg_id of event i.
func (h *history) id(i int) string {
	state := uint64(i)
	return fmt.Sprintf("2018-%016x-%08x", mixed(&state), i)
}

// at is when event i happened, in seconds since 1970.
func (h *history) at(i int) int64 {
	return h.begin.Unix() + int64(float64(i)*h.span.Seconds()/float64(h.events))
}

// user and packageOf name those of a rank, from 0.
func (h *history) user(rank int) string      { return "user" + strconv.Itoa(rank) }
func (h *history) packageOf(rank int) string { return "package" + strconv.Itoa(rank) }

// line appends event i.
func (h *history) line(dst []byte, i int) []byte {
	state := uint64(i)
	id := mixed(&state)
	draw := func(shares []float64) int64 {
		return int64(sort.SearchFloat64s(shares, float64(mixed(&state)>>11)/(1<<53)))
	}
	t := &h.templates[mixed(&state)%uint64(len(h.templates))]
	user, pkg := draw(h.users), draw(h.packages)
	rare := mixed(&state)
	dst = append(dst, `{"i":1,"timestamp":`...)
	dst = strconv.AppendInt(dst, h.at(i), 10)
	dst = append(dst, `,"msg_id":"2018-`...)
	dst = appendHex(dst, id, 16)
	dst = append(dst, '-')
	dst = appendHex(dst, uint64(i), 8)
	dst = append(dst, '"')
	for k, text := range t.texts {
		if dst = append(dst, text...); k == len(t.puts) {
			break
		}
		switch t.puts[k] {
		case 'u':
			dst = strconv.AppendInt(append(dst, "user"...), user, 10)
		case 'p':
			dst = strconv.AppendInt(append(dst, "package"...), pkg, 10)
		case 't':
			if rare%rarely == 0 {
				dst = strconv.AppendUint(append(dst, ".rare"...), rare/rarely%rareTopics, 10)
			}
		}
	}
	return append(dst, '\n')
}

func appendHex(dst []byte, x uint64, digits int) []byte {
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, "0123456789abcdef"[x>>shift&15])
	}
	return dst
}

// write puts events [from, to) into a file, durable, and gives its size.
func (h *history) write(t testing.TB, path string, from, to int) (size int64) {
	t.Helper()
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	buffered := bufio.NewWriterSize(out, 1<<20)
	var line []byte
	for i := from; i < to; i++ {
		line = h.line(line[:0], i)
		n, _ := buffered.Write(line) // what fails stays with the writer and comes up in Flush
		size += int64(n)
	}
	for _, err := range []error{buffered.Flush(), out.Sync(), out.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return size
}

// topics gives the topics of the templates, the most frequent first.
func (h *history) topics() (list []string) {
	n := map[string]int{}
	for _, t := range h.templates {
		for k, kind := range t.puts {
			if kind == 't' || kind == 'n' {
				text := t.texts[k]
				n[string(text[bytes.LastIndexByte(text, '"')+1:])]++
			}
		}
	}
	for topic := range n {
		list = append(list, topic)
	}
	slices.SortFunc(list, func(a, b string) int {
		if n[a] != n[b] {
			return n[b] - n[a]
		}
		return bytes.Compare([]byte(a), []byte(b))
	})
	return list
}
