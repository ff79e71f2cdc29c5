package journal

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzOpen gives a segment file any content: Open answers with what is whole or with an error, and what it offers can
// be read or is an error too, without a panic and without reading beyond the file.
func FuzzOpen(f *testing.F) {
	header := encodeHeader("abcdefghijklmnopqrstuvwxyz", 1, 77)
	d := newDisk()
	state := state{stream: "abcdefghijklmnopqrstuvwxyz", next: 1}.encode()
	path := segmentPath("/d", 1)
	d.entries[path] = &inode{data: bytes.Clone(header), dirty: map[int]bool{}}
	d.entries["/d/stream"] = &inode{data: state, dirty: map[int]bool{}}
	j, err := Open(Options{Dir: "/d", Files: d})
	if err != nil {
		f.Fatal(err)
	}
	for range 3 {
		appendAll(f, j, makeBlock(j.Next(), 2, 20))
	}
	whole := bytes.Clone(d.entries[path].data)
	f.Add(whole, uint64(0), uint64(0))
	f.Add(whole[:len(whole)-1], uint64(0), uint64(2))
	f.Add(append(bytes.Clone(header), make([]byte, 100)...), uint64(0), uint64(0))
	f.Add(whole, uint64(len(header)+3), uint64(2))
	f.Add(whole, uint64(len(header)+headBytes), uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, flip, archived uint64) {
		data = bytes.Clone(data)
		if flip > 0 && flip < uint64(len(data)) {
			data[flip] ^= 0x55
		}
		d := newDisk()
		d.entries[path] = &inode{data: data, dirty: map[int]bool{}}
		d.entries["/d/stream"] = &inode{data: state, dirty: map[int]bool{}}
		j, err := Open(Options{Dir: "/d", Files: d, ArchivedTo: archived})
		if err != nil {
			return
		}
		for after := j.ArchivedTo(); after < j.Next()-1; {
			blocks, err := j.ReadAfter(t.Context(), after, 100)
			if err != nil {
				if !errors.Is(err, ErrDamaged) {
					t.Fatal(err)
				}
				break
			}
			after = blocks[len(blocks)-1].Upto
		}
		next := j.Next()
		if err := j.Append(series(next, 1, 1, 5)); err != nil {
			t.Fatal(err)
		}
		wantEvents(t, j, next-1, next, 1)
	})
}

func FuzzDecodeState(f *testing.F) {
	f.Add(state{stream: newStream(), archived: 5, next: 9}.encode())
	f.Add(state{stream: newStream(), archived: 5, next: 9, renewed: newStream(), base: 3}.encode())
	f.Add([]byte("statscache journal 1\nstream x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decodeState(data)
		if err == nil && !bytes.Equal(s.encode(), data) {
			t.Fatal("what was decoded encodes to something else")
		}
	})
}
