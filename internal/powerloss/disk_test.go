package powerloss

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sync gives the two steps of one that went well.
func synced(file uint64, path string) []Step {
	return []Step{{Op: SyncBegin, File: file, Path: path, At: 7}, {Op: SyncEnd, File: file, Path: path, At: 7}}
}

// left writes an image and gives its files and folders.
func left(t *testing.T, d *Disk, r *rand.Rand) map[string]string {
	t.Helper()
	dir, out := t.TempDir(), map[string]string{}
	if err := d.Lose(r, dir); err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || entry.IsDir() {
			out[name+"/"] = ""
			return err
		}
		text, err := os.ReadFile(path)
		out[name] = string(text)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDisk_WhatWasSyncedIsLeft(t *testing.T) {
	create := []Step{{Op: Create, File: 1, Path: "a"}}
	write := func(file uint64, at int64, text string) []Step {
		return []Step{{Op: Write, File: file, At: at, Data: []byte(text)}}
	}
	x := func(n int) string { return strings.Repeat("x", n) }
	for name, c := range map[string]struct {
		steps [][]Step
		want  map[string]string
	}{
		"nothing synced":                     {[][]Step{create, write(1, 0, "one")}, map[string]string{}},
		"a file without its entry":           {[][]Step{create, write(1, 0, "one"), synced(1, "a")}, map[string]string{}},
		"an entry without its content":       {[][]Step{create, write(1, 0, "one"), synced(0, ".")}, map[string]string{"a": ""}},
		"both":                               {[][]Step{create, write(1, 0, "one"), synced(1, "a"), synced(0, ".")}, map[string]string{"a": "one"}},
		"written over afterwards":            {[][]Step{create, write(1, 0, "one"), synced(1, "a"), synced(0, "."), write(1, 0, "two")}, map[string]string{"a": "one"}},
		"written while it is synced":         {[][]Step{create, synced(0, "."), write(1, 0, "one"), synced(1, "a")[:1], write(1, 1, "w"), synced(1, "a")[1:]}, map[string]string{"a": "one"}},
		"a sync that was interrupted":        {[][]Step{create, synced(0, "."), write(1, 0, "one"), synced(1, "a")[:1], {{Op: SyncFail, File: 1, At: 7}}, synced(1, "a")}, map[string]string{"a": "one"}},
		"removed":                            {[][]Step{create, synced(0, "."), {{Op: Remove, Path: "a"}}}, map[string]string{"a": ""}},
		"removed for good":                   {[][]Step{create, synced(0, "."), {{Op: Remove, Path: "a"}}, synced(0, ".")}, map[string]string{}},
		"renamed":                            {[][]Step{create, synced(0, "."), {{Op: Rename, Path: "a", Data: []byte("b")}}}, map[string]string{"a": ""}},
		"renamed for good":                   {[][]Step{create, synced(0, "."), {{Op: Rename, Path: "a", Data: []byte("b")}}, synced(0, ".")}, map[string]string{"b": ""}},
		"in a folder whose entry is lost":    {[][]Step{{{Op: Mkdir, File: 2, Path: "d"}, {Op: Create, File: 1, Path: "d/a"}}, synced(1, "d/a"), synced(2, "d")}, map[string]string{}},
		"in a folder":                        {[][]Step{{{Op: Mkdir, File: 2, Path: "d"}, {Op: Create, File: 1, Path: "d/a"}}, synced(2, "d"), synced(0, ".")}, map[string]string{"d/": "", "d/a": ""}},
		"cut and grown":                      {[][]Step{create, synced(0, "."), write(1, 0, x(2000)), synced(1, "a"), {{Op: Truncate, File: 1, At: 600}, {Op: Truncate, File: 1, At: 1500}}, synced(1, "a")}, map[string]string{"a": x(600) + string(make([]byte, 900))}},
		"cut, and that is not synced":        {[][]Step{create, synced(0, "."), write(1, 0, x(600)), synced(1, "a"), {{Op: Truncate, File: 1, At: 0}}}, map[string]string{"a": x(600)}},
		"a file in the place of another one": {[][]Step{create, synced(0, "."), write(1, 0, "old"), synced(1, "a"), {{Op: Create, File: 3, Path: "a.new"}}, write(3, 0, "new"), {{Op: Rename, Path: "a.new", Data: []byte("a")}}, synced(0, ".")}, map[string]string{"a": ""}},
	} {
		d := NewDisk()
		for _, s := range slices.Concat(c.steps...) {
			if err := d.Apply(s); err != nil {
				t.Fatal(err)
			}
		}
		if got := left(t, d, nil); !maps.Equal(got, c.want) {
			t.Errorf("%s: left %q, want %q", name, got, c.want)
		}
	}
}

func TestDisk_WhatWasNotSyncedMayBeLeftInParts(t *testing.T) {
	d := NewDisk()
	old, fresh := bytes.Repeat([]byte("o"), 4*sector), bytes.Repeat([]byte("n"), 4*sector)
	steps := slices.Concat([]Step{{Op: Create, File: 1, Path: "a"}, {Op: Write, File: 1, Data: old}}, synced(1, "a"), synced(0, "."),
		[]Step{{Op: Write, File: 1, Data: fresh}, {Op: Create, File: 2, Path: "b"}})
	for _, s := range steps {
		if err := d.Apply(s); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for seed := range uint64(500) {
		got := left(t, d, rand.New(rand.NewPCG(seed, 0)))
		var kinds string
		for at := 0; at < len(got["a"]); at += sector {
			kinds += got["a"][at : at+1]
			if strings.Trim(got["a"][at:at+sector], got["a"][at:at+1]) != "" {
				t.Fatalf("a sector is torn: %q", got["a"][at:at+sector])
			}
		}
		_, there := got["b"]
		seen[fmt.Sprint(kinds, there)] = true
	}
	if len(seen) != 32 { // four sectors and an entry
		t.Errorf("%d of 32 states were left: %v", len(seen), slices.Sorted(maps.Keys(seen)))
	}
}

func TestDisk_RefusesWhatItCannotFollow(t *testing.T) {
	for _, s := range []Step{{Op: Unknown, Path: "a", Data: []byte("mmap")}, {Op: Write, File: 3}, {Op: Truncate, File: 3}} {
		if NewDisk().Apply(s) == nil {
			t.Errorf("%+v was taken", s)
		}
	}
}

func TestRecording_ReadsWhatWasAppendedAndNothingTorn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "recording")
	want := []Step{{Op: Create, File: 1, Path: "a"}, {Op: Write, File: 1, At: 1 << 40, Data: []byte("text")}, {Op: SyncBegin, File: 1, Path: "a", At: 3}}
	var all bytes.Buffer
	var ends []int64
	for _, s := range want {
		if err := Append(&all, s); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, int64(all.Len()))
	}
	for size := range all.Len() + 1 {
		if err := os.WriteFile(path, all.Bytes()[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		whole := 0
		for whole < len(ends) && ends[whole] <= int64(size) {
			whole++
		}
		if len(got) != whole {
			t.Fatalf("%d bytes give %d steps, want %d", size, len(got), whole)
		}
		for i, s := range got {
			if s.Op != want[i].Op || s.File != want[i].File || s.At != want[i].At || s.Path != want[i].Path || !bytes.Equal(s.Data, want[i].Data) || s.End != ends[i] {
				t.Fatalf("step %d is %+v, want %+v", i, s, want[i])
			}
		}
	}
}
