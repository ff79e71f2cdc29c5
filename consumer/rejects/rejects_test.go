package rejects

import (
	"bufio"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func read(t *testing.T, path string) (out []Reject) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		var r Reject
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func open2(t *testing.T, dir string, o Options) *Keeper {
	t.Helper()
	o.Dir, o.Logger = dir, slog.New(slog.DiscardHandler)
	k, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func TestKeep_WholeWhereReplayCanHelpSampledElsewhere(t *testing.T) {
	dir := t.TempDir()
	k := open2(t, dir, Options{})
	big := []byte(strings.Repeat("x", 10*MaxSample))
	k.Keep(Reject{Reason: "time", Body: big})
	k.Keep(Reject{Reason: "json", Body: big})
	kept, last := read(t, filepath.Join(dir, "kept.jsonl")), read(t, filepath.Join(dir, "last.jsonl"))
	if len(kept) != 1 || !kept[0].Whole || len(kept[0].Body) != len(big) {
		t.Fatalf("kept %d", len(kept))
	}
	if len(last) != 1 || last[0].Whole || len(last[0].Body) != MaxSample || last[0].Size != len(big) {
		t.Fatalf("sampled %d", len(last))
	}
}

func TestKeep_HoldsAtLeastTheLastOnesAndStaysBounded(t *testing.T) {
	dir := t.TempDir()
	k := open2(t, dir, Options{SampleCount: 10, MaxBytes: 2000})
	for range 35 {
		k.Keep(Reject{Reason: "json", Body: []byte("b")})
	}
	k = open2(t, dir, Options{SampleCount: 10, MaxBytes: 2000}) // a restart goes on where the file was
	k.Keep(Reject{Reason: "json", Body: []byte("newest")})
	n := len(read(t, filepath.Join(dir, "last.jsonl"))) + len(read(t, filepath.Join(dir, "last.1.jsonl")))
	if n < 10 || n > 20 {
		t.Fatalf("%d samples, want 10 to 20", n)
	}
	for range 50 {
		k.Keep(Reject{Reason: "signature", Body: []byte(strings.Repeat("y", 100))})
	}
	info, err := os.Stat(filepath.Join(dir, "kept.jsonl"))
	if err != nil || info.Size() > 2000+400 {
		t.Fatalf("%d bytes kept, %v", info.Size(), err)
	}
	if last := read(t, filepath.Join(dir, "last.jsonl")); last[len(last)-1].Reason != "signature" {
		t.Fatal("what did not fit any more was not even sampled")
	}
}
