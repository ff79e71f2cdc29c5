package journal

import "testing"

// readThrough reads all that is not archived and gives the error that stops it.
func readThrough(t *testing.T, j *Journal) error {
	t.Helper()
	for after := j.ArchivedTo(); after < j.Next()-1; {
		blocks, err := j.ReadAfter(t.Context(), after, 100)
		if err != nil {
			return err
		}
		after = blocks[len(blocks)-1].Upto
	}
	return nil
}

// TestOpen_ReadsTheLastSegmentOnly: a full inbox must not delay the start.
func TestOpen_ReadsTheLastSegmentOnly(t *testing.T) {
	d := newDisk()
	opt := Options{Dir: "/d", Files: d, SegmentBytes: 4 << 10, TailBytes: -1}
	j := open(t, opt)
	for range 30 { // three to a segment
		appendAll(t, j, makeBlock(j.Next(), 1, 1200))
	}
	used, _ := j.Bytes()
	read := 0
	opt.Files = readCounter{d, &read}
	j = open(t, opt)
	if again, _ := j.Bytes(); again != used {
		t.Errorf("%d bytes used, were %d", again, used)
	}
	if most := 9*headerBytes + 3*(4<<10); read > most {
		t.Errorf("%d bytes of %d were read, want %d at most", read, used, most)
	}
	wantEvents(t, j, 0, 30, 1)
	if again, _ := j.Bytes(); again != used {
		t.Errorf("%d bytes used after reading, were %d", again, used)
	}
}

// readCounter adds up what is read from files.
type readCounter struct {
	Files
	n *int
}

func (c readCounter) Open(path string, flag int) (File, error) {
	f, err := c.Files.Open(path, flag)
	return readCountedFile{f, c.n}, err
}

type readCountedFile struct {
	File
	n *int
}

func (f readCountedFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(b, off)
	*f.n += n
	return n, err
}
