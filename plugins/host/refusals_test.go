package host

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/statscache/statscache/store"
)

func TestRefusals_AreSaidWhereNearlyAllAre(t *testing.T) {
	type answer struct {
		after          time.Duration
		asked, refused int
	}
	for name, c := range map[string]struct {
		answers []answer
		at      time.Duration // of the look, after the last answer
		want    string
	}{
		"none":              {},
		"few events":        {answers: []answer{{0, 99, 99}}},
		"all":               {answers: []answer{{0, 100, 100}}, want: "100 of the last 100 events were refused: bad"},
		"nearly all":        {answers: []answer{{0, 500, 500}, {time.Minute, 500, 400}}, want: "900 of the last 1000 events were refused: bad"},
		"not so many":       {answers: []answer{{0, 1000, 899}}},
		"over minutes":      {answers: []answer{{0, 60, 60}, {3 * time.Minute, 60, 60}}, want: "120 of the last 120"},
		"well since":        {answers: []answer{{0, 9000, 9000}, {3 * time.Minute, 200, 0}, {2 * time.Minute, 200, 0}}},
		"nothing for long":  {answers: []answer{{0, 9000, 9000}}, at: 4 * time.Minute},
		"a slice is passed": {answers: []answer{{0, 9000, 9000}}, at: 3 * time.Minute, want: "9000 of the last 9000"},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1e9, 0)
			h := &Host{Options: Options{Logger: slog.New(slog.DiscardHandler), Limits: Limits{Letters: 1e9}}, now: func() time.Time { return now }}
			r := newRunner(h, Program{ID: "p"}, 0)
			for _, a := range c.answers {
				now = now.Add(a.after)
				if err := r.refused(a.asked, a.refused, "bad\nat line 7"); err != nil {
					t.Fatal(err)
				}
			}
			now = now.Add(c.at)
			if got := r.status().Error; (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("says %q, want %q", got, c.want)
			}
		})
	}
}

// TestHost_APluginThatRefusesTooMuchIsQuarantined: its position is kept, and once it is mended nothing is missing.
func TestHost_APluginThatRefusesTooMuchIsQuarantined(t *testing.T) {
	words := map[uint64]string{}
	for seq := uint64(101); seq <= 1200; seq++ {
		words[seq] = "panic"
	}
	blocks := withTopics(33, 12, 100, words)
	db, ends := archived(t, blocks)
	file := t.TempDir() + "/mended"
	limits := quick()
	limits.Letters = 250
	o := Options{Programs: []Program{program(t, "moody", "MENDED_FILE="+file)}, Store: db, Feed: archiveFeed{db}, Limits: limits}
	h, stop := runHost(t, o)
	until(t, func() bool { return statusOf(h, "moody").State == Quarantined })
	s := statusOf(h, "moody")
	if !strings.Contains(s.Error, "250 are the most") || !strings.Contains(s.Error, "statscache plugin requeue moody") {
		t.Errorf("%+v", s)
	}
	until(t, func() bool { // what it had answered is committed while it ends
		s = statusOf(h, "moody")
		n := len(buried(t, db, "moody"))
		return n > 250 && n == s.DeadLetters
	})
	dead := buried(t, db, "moody")
	if len(dead) <= 250 || len(dead) > 1100 {
		t.Errorf("%d dead letters", len(dead))
	}
	h.Unburied(map[store.LettersOf]int{{Plugin: "moody", Generation: 1}: 7, {Plugin: "moody", Generation: 2}: 1000})
	if n := statusOf(h, "moody").DeadLetters; n != s.DeadLetters-7 {
		t.Errorf("%d dead letters are shown after 7 of %d expired", n, s.DeadLetters)
	}
	stop()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h, _ = runHost(t, o)
	if got, err := h.Requeue(soon(t), "moody", nil); err != nil || got.Taken != len(dead) {
		t.Fatalf("%+v, %v", got, err)
	}
	waitCaughtUp(t, h, ends)
	sameRows(t, stored(t, db), brute("moody", 1, blocks, nil))
}

func TestClip_NeverSplitsARune(t *testing.T) {
	for _, s := range []string{"", "abc", "äöü", "a€b", "😀😀", "\x80\x80\x80"} {
		for n := range len(s) + 2 {
			got := clip(s, n)
			if len(got) > n || !strings.HasPrefix(s, got) || utf8.ValidString(s) && !utf8.ValidString(got) || len(got) < min(n, len(s))-3 {
				t.Errorf("clip(%q, %d) is %q", s, n, got)
			}
		}
	}
}
