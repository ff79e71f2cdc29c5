package sqlite

import (
	"slices"
	"testing"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store/storetest"
)

// TestKnown_SaysWhatArchiveWouldSay of pieces of what was archived in random lives: with other times, and behind a
// horizon.
func TestKnown_SaysWhatArchiveWouldSay(t *testing.T) {
	again := small(t)
	d := again(t)
	defer func() { _ = d.Close() }()
	m := newModel(t, d, 9)
	answers := map[bool]int{}
	ask := func() {
		t.Helper()
		from := m.r.IntN(len(m.list))
		list := slices.Clone(m.list[from:min(len(m.list), from+1+m.r.IntN(20))])
		if m.r.IntN(3) == 0 {
			list = append(list, storetest.Event{ID: "nobody's", Time: list[0].Time})
		}
		b := storetest.Build(m.at[0]+1, m.r.IntN(2) == 0, list)
		want := allKnown(t, d, m.at[0], b)
		known, err := d.Known(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		if known != want {
			t.Fatalf("known %v, but archiving them would say %v", known, want)
		}
		answers[known]++
	}
	for round := range 100 {
		if round == 60 {
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			d = again(t)
			m.d = d
		}
		m.play()
		ask()
	}
	if _, err := d.ExpireArchive(t.Context(), storetest.Base+int64(m.count)*5e4); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		ask()
	}
	if answers[true] < 10 || answers[false] < 10 {
		t.Fatalf("the test proves nothing: %v", answers)
	}
}

// allKnown asks as Archive does and lets nothing of it stand.
func allKnown(t *testing.T, d *DB, archivedTo uint64, b *block.Block) (all bool) {
	t.Helper()
	err := d.write(t.Context(), "ask", func(c *conn) (err error) {
		a, err := loadArchive(c, d)
		if err != nil {
			return err
		}
		r, keep, err := a.admit(c, archivedTo, b)
		all = r.Expired == 0 && !slices.Contains(keep, true)
		if d.arch == nil && err == nil {
			d.arch, err = loadArchive(c, d)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
