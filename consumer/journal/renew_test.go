package journal

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestRenew_WhatIsNotArchivedIsTheNewStreams(t *testing.T) {
	opt := Options{Dir: filepath.Join(t.TempDir(), "journal")}
	j := open(t, opt)
	first := j.Stream()
	if j.Base() != 0 {
		t.Fatalf("base %d of a new journal", j.Base())
	}
	appendAll(t, j, series(1, 5, 10, 100)...)
	seen := map[string]bool{first: true}
	for round, archivedTo := range []uint64{20, 20, 45} { // the second one loses its stream before it archived anything
		stream, err := j.Renew(archivedTo)
		if err != nil {
			t.Fatal(err)
		}
		if seen[stream] || !validStream(stream) || j.Stream() != stream || j.Base() != archivedTo || j.ArchivedTo() != archivedTo {
			t.Fatalf("round %d: stream %q after %v, base %d, archived %d", round, stream, seen, j.Base(), j.ArchivedTo())
		}
		seen[stream] = true
		appendAll(t, j, makeBlock(j.Next(), 5, 100))
		last := j.Next() - 1
		wantEvents(t, j, archivedTo, last, 1<<20)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := StreamOf(nil, opt.Dir); err != nil || got != stream {
			t.Fatalf("round %d: StreamOf: %q, %v", round, got, err)
		}
		j = open(t, opt)
		if j.Stream() != stream || j.Base() != archivedTo || j.Next() != last+1 {
			t.Fatalf("round %d, after reopening: stream %q, base %d, next %d", round, j.Stream(), j.Base(), j.Next())
		}
		wantEvents(t, j, archivedTo, last, 1<<20)
	}
}

func TestRenew_TheArchiveIsAhead_TheNumberingGoesOnAboveIt(t *testing.T) {
	opt := Options{Dir: filepath.Join(t.TempDir(), "journal")}
	j := open(t, opt)
	appendAll(t, j, series(1, 5, 10, 100)...)
	if _, err := j.Renew(70); err != nil {
		t.Fatal(err)
	}
	if j.Next() != 71 {
		t.Fatalf("next is %d", j.Next())
	}
	appendAll(t, j, makeBlock(71, 3, 100))
	wantEvents(t, j, 70, 73, 1<<20)
}

func TestRenew_AfterAStateFileIsLost_TheFirstStreamIsTheOne(t *testing.T) {
	opt := Options{Dir: filepath.Join(t.TempDir(), "journal")}
	j := open(t, opt)
	first := j.Stream()
	appendAll(t, j, series(1, 5, 10, 100)...)
	if _, err := j.Renew(20); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Renew(30); !errors.Is(err, ErrClosed) {
		t.Fatalf("after Close: %v", err)
	}
	if err := os.Remove(filepath.Join(opt.Dir, stateName)); err != nil {
		t.Fatal(err)
	}
	j = open(t, opt) // it is retired in the store, which then has it renewed again
	if j.Stream() != first || j.Base() != 0 {
		t.Fatalf("stream %q, base %d", j.Stream(), j.Base())
	}
	wantEvents(t, j, 0, 50, 1<<20)
}
