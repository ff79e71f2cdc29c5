package consumer

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/statscache/statscache/consumer/fedmsg"
	"github.com/statscache/statscache/internal/block"
)

// emptyBackup makes a backup of a data dir in which nothing happened.
func emptyBackup(t *testing.T) (file string) {
	t.Helper()
	d, err := Open(t.Context(), Options{Config: testConfig(t)})
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "backup")
	if _, err := d.Backup(t.Context(), file, nil); err != nil {
		t.Fatal(err)
	}
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestRestore_BrokenOffIsNotTakenForADataDir: whatever a restore that was killed left, nothing starts on it.
func TestRestore_BrokenOffIsNotTakenForADataDir(t *testing.T) {
	file, back := emptyBackup(t), testConfig(t)
	if err := os.MkdirAll(filepath.Join(back.DataDir, restoringFolder), 0o700); err != nil {
		t.Fatal(err)
	}
	_, opened := Open(t.Context(), Options{Config: back})
	_, again := Restore(t.Context(), back, file, slog.New(slog.DiscardHandler), nil)
	for _, err := range []error{opened, again} {
		if !errors.Is(err, errHalfRestored) || !strings.Contains(err.Error(), "restore again") {
			t.Errorf("got %v", err)
		}
	}
	if err := os.RemoveAll(back.DataDir); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), back, file, slog.New(slog.DiscardHandler), nil); err != nil {
		t.Errorf("into an empty data dir: %v", err)
	}
}

// TestRestore_InterruptedLeavesTheDataDirEmpty: a signal is no reason to begin with a removal.
func TestRestore_InterruptedLeavesTheDataDirEmpty(t *testing.T) {
	file, back := emptyBackup(t), testConfig(t)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Restore(ctx, back, file, slog.New(slog.DiscardHandler), func(int, int) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := Restore(t.Context(), back, file, slog.New(slog.DiscardHandler), nil); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestRenumbered_KeepsTheHoles(t *testing.T) {
	w := block.NewBuilder(fedmsg.Category)
	for _, id := range []string{"a", "b"} {
		w.Add(&block.Event{ID: []byte(id), IDAt: -1, Topic: []byte("t"), Body: []byte("{}")})
	}
	b := w.Restore(block.Cover{First: 10, Upto: 14, Seqs: []uint64{11, 14}, Received: []int64{1, 2}, Bodies: true})
	record := renumbered(b, 3).Append(make([]byte, 8))
	record[0], record[1] = byte(len(record)-8), byte((len(record)-8)>>8)
	n := 0
	if err := decodeInbox(bytes.NewReader(record), func(x *block.Block) error {
		n++
		if x.First != 3 || x.Upto != 7 || x.Seq(0) != 4 || x.Seq(1) != 7 {
			t.Errorf("positions %d to %d, %v", x.First, x.Upto, x.Seqs)
		}
		return nil
	}); err != nil || n != 1 {
		t.Fatalf("%d blocks, %v", n, err)
	}
	if err := decodeInbox(bytes.NewReader(record[:len(record)-1]), func(*block.Block) error { return nil }); err == nil {
		t.Error("a block that was cut is taken")
	}
	if err := decodeInbox(bytes.NewReader(bytes.Repeat([]byte{0xff}, 16)), func(*block.Block) error { return nil }); err == nil {
		t.Error("a block of any length is taken")
	}
}

// TestBackup_DoesNotBelieveToHaveWhatABackfillFetchedMeanwhile: what is noted as done after the backup began is not noted
// in the copy, unless its events are there.
func TestBackup_DoesNotBelieveToHaveWhatABackfillFetchedMeanwhile(t *testing.T) {
	c := testConfig(t)
	d, err := Open(t.Context(), Options{Config: c})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.DataDir, backfillFile)
	note := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	note(`{"a":{"done":[{"from":0,"to":1}]}}`)
	file := filepath.Join(t.TempDir(), "backup")
	sum, err := d.Backup(t.Context(), file, func(int, int) { note(`{"a":{"done":[{"from":0,"to":9}]}}`) })
	if err != nil || sum.Files == 0 {
		t.Fatal(err)
	}
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	back := testConfig(t)
	if _, err := Restore(t.Context(), back, file, slog.New(slog.DiscardHandler), nil); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(back.DataDir, backfillFile))
	if err != nil || !strings.Contains(string(text), `"to":1}`) {
		t.Errorf("the copy notes %s (%v)", text, err)
	}
}
