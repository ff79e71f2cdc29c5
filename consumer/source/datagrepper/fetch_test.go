package datagrepper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/fakearchive"
)

const epoch = 1_524_700_000 // 2018-04-25

// disk is a sink that loses, when it is killed, what was not archived.
type disk struct {
	delivered, archived [][]byte
}

func (d *disk) Deliver(_ context.Context, envelopes [][]byte) error {
	d.delivered = append(d.delivered, envelopes...)
	return nil
}

func (d *disk) Archived(context.Context) error {
	d.archived = append(d.archived, d.delivered...)
	d.delivered = nil
	return nil
}

// serial makes the two calls of a sink exclude each other: the recorder works beside the fetcher.
type serial struct {
	disk *disk
	lock chan struct{}
	kill func() // called at every delivery
}

func (s *serial) Deliver(ctx context.Context, e [][]byte) error {
	s.lock <- struct{}{}
	defer func() { <-s.lock }()
	if s.kill != nil {
		s.kill()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return s.disk.Deliver(ctx, e)
}

func (s *serial) Archived(ctx context.Context) error {
	s.lock <- struct{}{}
	defer func() { <-s.lock }()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return s.disk.Archived(ctx)
}

// history makes rows over some days, in bursts, some of them at the same moment, in both forms that archives give.
func history(rng *rand.Rand, n int, span int64) []fakearchive.Row {
	rows := make([]fakearchive.Row, 0, n)
	at := float64(epoch)
	for i := range n {
		switch rng.IntN(20) {
		case 0:
			at += rng.Float64() * 40 * float64(span) / float64(n)
		case 1, 2, 3:
		default:
			at += rng.Float64() * 0.5
		}
		rows = append(rows, row(fmt.Sprintf("m-%d", i), at, rng.IntN(3) == 0))
	}
	return rows
}

func row(id string, at float64, fedora bool) fakearchive.Row {
	at = float64(int64(at*1e3)) / 1e3
	if fedora {
		sent := time.UnixMicro(int64(at * 1e6)).UTC().Format(time.RFC3339Nano)
		return fakearchive.Row{Time: at, Raw: json.RawMessage(fmt.Sprintf(`{"body":{"a":"\u0000"},"headers":{"sent-at":%q},"id":%q,"priority":0,"queue":null,"topic":"org.x"}`, sent, id))}
	}
	return fakearchive.Row{Time: at, Raw: json.RawMessage(fmt.Sprintf(`{"i":1,"msg_id":%q,"topic":"org.x","timestamp":%.3f,"msg":{"signature":"s"},"certificate":"c","signature":"s"}`, id, at))}
}

func ids(t *testing.T, envelopes [][]byte) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, e := range envelopes {
		var m struct {
			MsgID     string          `json:"msg_id"`
			Msg       json.RawMessage `json:"msg"`
			Timestamp float64         `json:"timestamp"`
		}
		if err := json.Unmarshal(e, &m); err != nil || m.MsgID == "" || m.Msg == nil || m.Timestamp < epoch {
			t.Fatalf("envelope %s: %v", e, err)
		}
		out[m.MsgID]++
	}
	return out
}

func noSleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

var errKilled = errors.New("killed")

// TestFetch_EveryEventWhateverFaultsAndKills reads a hostile archive in many lives, each of which loses what was not
// archived when it ended.
func TestFetch_EveryEventWhateverFaultsAndKills(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			const span = 3 * 86400
			archive := fakearchive.New(seed, history(rng, 6000, span))
			archive.Faults = fakearchive.Some
			archive.Faults.SlowRows = 1500
			grown := 0
			archive.Grow = func(after float64) (fakearchive.Row, bool) {
				grown++
				return row(fmt.Sprintf("late-%d", grown), min(after+1+rng.Float64()*7200, epoch+3*span), false), true
			}
			if seed%2 == 1 {
				archive.V2Only = true
			}
			server := httptest.NewServer(archive)
			defer server.Close()
			path, d := filepath.Join(t.TempDir(), "backfill.json"), &disk{}
			lives := 0
			for {
				lives++
				state, err := OpenState(path)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				left := 5 + rng.IntN(60)
				sink := &serial{disk: d, lock: make(chan struct{}, 1), kill: func() {
					if left--; left == 0 && lives < 12 {
						cancel(errKilled)
					}
				}}
				_, err = Fetch(ctx, Options{URL: server.URL, Span: Span{epoch - 100, epoch + 4*span}, State: state, Sink: sink, Sleep: noSleep, HTTP: server.Client(), gather: 10 * time.Millisecond})
				cancel(nil)
				d.delivered = nil
				if err == nil {
					break
				}
				if lives > 60 {
					t.Fatalf("it doesn't end: %v", err)
				}
			}
			got := ids(t, d.archived)
			rows := archive.Rows()
			for _, r := range rows {
				var m struct{ ID, Msg_id string }
				_ = json.Unmarshal(r.Raw, &m)
				if got[m.ID+m.Msg_id] == 0 {
					t.Fatalf("the message at %.3f is missing: %s", r.Time, r.Raw)
				}
			}
			if len(got) != len(rows) {
				t.Errorf("%d different events of %d", len(got), len(rows))
			}
			requests, again := archive.Asked()
			t.Logf("%d events in %d lives, %d requests, %d good pages asked for again", len(rows), lives, requests, again)
		})
	}
}

// TestFetch_AfterAKillNoPageIsAskedForAgain holds what is archived to be known after a kill, pages of a window included.
func TestFetch_AfterAKillNoPageIsAskedForAgain(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	archive := fakearchive.New(1, history(rng, 8000, 86400))
	server := httptest.NewServer(archive)
	defer server.Close()
	path, d := filepath.Join(t.TempDir(), "backfill.json"), &disk{}
	kills := 0
	for done := false; !done; kills++ {
		state, err := OpenState(path)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		left := 7
		sink := &serial{disk: d, lock: make(chan struct{}, 1)}
		sink.kill = func() {
			if left--; left == 0 {
				cancel(errKilled)
			}
		}
		_, err = Fetch(ctx, Options{URL: server.URL, Span: Span{epoch - 100, epoch + 30*86400}, State: state, Sink: settled{sink, state, path}, Sleep: noSleep, gather: time.Millisecond, HTTP: server.Client()})
		cancel(nil)
		d.delivered, done = nil, err == nil
		if err != nil && !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
	}
	requests, again := archive.Asked()
	if kills < 8 {
		t.Fatalf("only %d kills", kills)
	}
	// The page under way at a kill, the one asked for ahead, the one before if it was not noted yet, and the first page of
	// a window that turns out to be too large.
	if again > 4*kills {
		t.Errorf("%d of %d requests were for pages that had been answered, after %d kills", again, requests, kills)
	}
	if got := ids(t, d.archived); len(got) != 8000 {
		t.Errorf("%d events of 8000", len(got))
	}
}

// settled waits at every delivery until what was delivered before is noted.
type settled struct {
	*serial
	state *State
	path  string
}

func (s settled) Deliver(ctx context.Context, e [][]byte) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		s.lock <- struct{}{}
		n := len(s.disk.delivered)
		<-s.lock
		if n == 0 || ctx.Err() != nil || time.Now().After(deadline) {
			break
		}
		time.Sleep(time.Millisecond) // the recorder's write to a real disk is what is waited for
	}
	return s.serial.Deliver(ctx, e)
}

func TestFetch_Refusals(t *testing.T) {
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"not found", http.NotFound, "404"},
		{"forbidden", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "403"},
		{"always 500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "12 attempts failed"},
		{"another API", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"results":[]}`) }, "raw_messages or total is missing"},
		{"HTML", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `<html>`) }, "invalid character"},
		{"asks for a day's rest", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "86400")
			w.WriteHeader(http.StatusTooManyRequests)
		}, "left alone for 24h"},
		{"doesn't honour start and end", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"raw_messages":[%s],"total":1,"pages":1,"count":1}`, row("a", epoch+40*86400, false).Raw)
		}, "gives a message of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(c.handler)
			defer server.Close()
			state, err := OpenState(filepath.Join(t.TempDir(), "s"))
			if err != nil {
				t.Fatal(err)
			}
			_, err = Fetch(t.Context(), Options{URL: server.URL, Span: Span{epoch, epoch + 10}, State: state, Sink: &serial{disk: &disk{}, lock: make(chan struct{}, 1)}, Sleep: noSleep})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestFetch_WhatTheArchiveKeepsBackIsSaidAndAskedForAgain: a total that no reading reaches is not taken for done.
func TestFetch_WhatTheArchiveKeepsBackIsSaidAndAskedForAgain(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"raw_messages":[%s],"total":2,"pages":1,"count":1}`, row("a", epoch+1, false).Raw)
	}))
	defer server.Close()
	state, err := OpenState(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	span := Span{epoch, epoch + 2}
	r, err := Fetch(t.Context(), Options{URL: server.URL, Span: span, State: state, Sink: &serial{disk: &disk{}, lock: make(chan struct{}, 1)}, Sleep: noSleep})
	if err != nil || len(r.Incomplete) != 2 {
		t.Errorf("%+v, %v: want two incomplete seconds", r, err)
	}
	if left := state.Missing(Key(server.URL), span); len(left) != 1 || left[0] != span {
		t.Errorf("missing is %v, want %v", left, span)
	}
}

func TestFetch_TheNewestIsFetchedButNotTakenForDone(t *testing.T) {
	now := time.Unix(epoch+1000, 0)
	server := httptest.NewServer(fakearchive.New(1, []fakearchive.Row{row("a", epoch+1, false), row("b", epoch+999, false)}))
	defer server.Close()
	state, err := OpenState(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	d := &disk{}
	if _, err := Fetch(t.Context(), Options{URL: server.URL, Span: Span{epoch, epoch + 1000}, State: state, Sink: &serial{disk: d, lock: make(chan struct{}, 1)}, Sleep: noSleep,
		Now: func() time.Time { return now }}); err != nil {
		t.Fatal(err)
	}
	if len(d.archived) != 2 {
		t.Errorf("%d events of 2", len(d.archived))
	}
	if left := state.Missing(Key(server.URL), Span{epoch, epoch + 1000}); len(left) != 1 || left[0] != (Span{epoch + 400, epoch + 1000}) {
		t.Errorf("missing is %v", left)
	}
}

// TestFetch_IsPolite: an archive elsewhere gets as much rest as work, and waits as long as it asks for.
func TestFetch_IsPolite(t *testing.T) {
	f := &fetcher{o: &Options{}, rate: defaultRate}
	now := time.Unix(epoch, 0)
	var slept time.Duration
	f.o.Now = func() time.Time { return now }
	f.o.Sleep = func(_ context.Context, d time.Duration) error { slept = d; return nil }
	for _, c := range []struct{ took, want time.Duration }{{10 * time.Millisecond, 190 * time.Millisecond}, {time.Second, time.Second}, {time.Minute, restMax}} {
		f.last, f.took, slept = now, c.took, 0
		if err := f.rest(t.Context()); err != nil || slept != c.want {
			t.Errorf("after a request of %s it rests %s, want %s (%v)", c.took, slept, c.want, err)
		}
	}
}

func TestSpans(t *testing.T) {
	got := Merged([]Span{{10, 20}, {5, 5}, {0, 3}, {20, 25}, {2, 4}})
	if fmt.Sprint(got) != "[{0 4} {10 25}]" {
		t.Errorf("merged %v", got)
	}
	if out := without(Span{2, 30}, got); fmt.Sprint(out) != "[{4 10} {25 30}]" {
		t.Errorf("left %v", out)
	}
	if out := without(Span{11, 20}, got); out != nil {
		t.Errorf("left %v", out)
	}
}
