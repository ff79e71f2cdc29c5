package rejects

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func details(t *testing.T, dir string) (out []string, damaged int) {
	t.Helper()
	damaged, err := List(dir, func(e Entry) error { out = append(out, e.Detail); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return out, damaged
}

func TestList_GivesAllFilesAndCountsWhatIsDamaged(t *testing.T) {
	if list, damaged := details(t, filepath.Join(t.TempDir(), "none")); len(list) > 0 || damaged > 0 {
		t.Fatalf("no folder: %q, %d damaged", list, damaged)
	}
	dir := t.TempDir()
	k := open2(t, dir, Options{SampleCount: 2})
	k.Keep(Reject{Reason: "time", Detail: "whole"})
	for i := range 5 {
		k.Keep(Reject{Reason: "json", Detail: strconv.Itoa(i)})
	}
	appendTo(t, k.path(keptFile), "garbage\n{\"reason\":\"time\",\"det")
	list, damaged := details(t, dir)
	if want := []string{"whole", "2", "3", "4"}; !slices.Equal(list, want) || damaged != 2 {
		t.Fatalf("%q and %d damaged, want %q and 2", list, damaged, want)
	}
	enough := errors.New("enough")
	if _, err := List(dir, func(Entry) error { return enough }); !errors.Is(err, enough) {
		t.Fatalf("%v, want the function's error", err)
	}
}

func TestDrop_RemovesWhatIsToldAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	k := open2(t, dir, Options{MaxBytes: 2000})
	for i := range 5 {
		k.Keep(Reject{Reason: "time", Detail: strconv.Itoa(i), Body: []byte("body")})
	}
	appendTo(t, k.path(keptFile), "garbage\n")
	k.Keep(Reject{Reason: "policy", Detail: "5"})
	appendTo(t, k.path(keptFile), "{\"cut")
	if err := k.Drop(func(i int) bool { return i%2 == 0 }); err != nil {
		t.Fatal(err)
	}
	if list, damaged := details(t, dir); !slices.Equal(list, []string{"1", "3", "5"}) || damaged != 2 {
		t.Fatalf("left are %q and %d damaged lines, want 1, 3, 5 and 2: what can't be read is not ours to remove", list, damaged)
	}
	k.Keep(Reject{Reason: "time", Detail: "after"}) // the new file is the one that is written to
	if list, _ := details(t, dir); len(list) != 4 || list[3] != "after" {
		t.Fatalf("after a drop: %q", list)
	}
	if info, err := os.Stat(k.path(keptFile)); err != nil || info.Size() != k.keptN {
		t.Fatalf("%v bytes, counted as %d, %v", info.Size(), k.keptN, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Fatalf("files left behind: %v, %v", entries, err)
	}
}

func TestFollow_TellsWhatComesThroughRotationsAndReplays(t *testing.T) {
	dir := t.TempDir()
	k := open2(t, dir, Options{SampleCount: 3})
	at := time.Unix(1, 0)
	keep := func(reason, detail string) {
		at = at.Add(time.Second)
		k.Keep(Reject{At: at, Reason: reason, Detail: detail})
	}
	keep("time", "before")
	keep("json", "before")
	var files []*tailed
	for _, name := range []string{keptFile, lastFile} {
		f := &tailed{path: filepath.Join(dir, name)}
		defer f.close()
		if err := f.open(2); err != nil { // io.SeekEnd
			t.Fatal(err)
		}
		files = append(files, f)
	}
	var got, want []string
	look := func() {
		t.Helper()
		for _, f := range files {
			if err := f.poll(func(e Entry) error { got = append(got, e.Detail); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("told of %q, want %q", got, want)
		}
	}
	look()
	for i := range 10 { // rotates several times, never twice between two looks
		keep("json", "s"+strconv.Itoa(i))
		keep("time", "w"+strconv.Itoa(i))
		want = append(want, "s"+strconv.Itoa(i), "w"+strconv.Itoa(i))
		look()
	}
	if err := k.Drop(func(i int) bool { return i < 5 }); err != nil {
		t.Fatal(err)
	}
	look()
	keep("time", "last")
	want = append(want, "last")
	look()
}

func TestFollow_EndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	dir := t.TempDir()
	k := open2(t, dir, Options{})
	told := make(chan string, 1)
	go func() {
		done <- Follow(ctx, dir, time.Millisecond, func(e Entry) error { told <- e.Detail; return nil })
	}()
	for heard := false; !heard; { // it may begin after the first ones
		k.Keep(Reject{Reason: "json", Detail: "x"})
		select {
		case <-told:
			heard = true
		case <-time.After(5 * time.Millisecond):
		}
	}
	cancel()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		case <-told:
		}
	}
}
