package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"sort"
)

// A segment file is a header and records, integers little endian.
//
//	header: magic, version (4), stream id (26), first position (8), salt (8), CRC-32C of all that (4)
//	record: length of the payload (4), CRC-32C of the payload (4), first position (8), last position (8),
//	        offset in the file where its append began (8), CRC-32C of these 32 bytes (4), payload: block.Append
//
// The checksum of a record's head goes on from the header's, which covers a random salt: neither a body that imitates
// a record nor an old file's remains on a reused disk block can pass for one. What one Append wrote shares one
// offset: a record whose append began behind a damaged spot proves that the spot had been acknowledged, since no
// append begins before the one before it is durable.
const (
	magic         = "statsjnl"
	formatVersion = 1
	headerBytes   = len(magic) + 4 + streamBytes + 8 + 8 + 4
	headBytes     = 36
	maxPayload    = 1 << 30
	segmentSuffix = ".seg"
	markEvery     = 64 << 10 // bytes between two marks of a segment's index
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli) // immutable

// segment is one file and what is known of it. All that lies below size is durable.
type segment struct {
	path  string
	first uint64 // position its name and header carry
	next  uint64 // the position after its last one
	start int64  // offset of the first readable record: behind the header, or behind damage that is archived
	size  int64  // end of the last durable record
	group int64  // where the append of the last record began
	seed  uint32 // the header's checksum
	marks []mark
	// unread says that only the header was looked at so far: next is where the next segment starts, size the file's.
	unread bool
}

// mark says that the record with this first position begins at an offset.
type mark struct {
	first uint64
	at    int64
}

func (s *segment) addRecord(h head, at int64) {
	if n := len(s.marks); n == 0 || at-s.marks[n-1].at >= markEvery {
		s.marks = append(s.marks, mark{h.first, at})
	}
	s.size, s.next, s.group = at+headBytes+int64(h.length), h.upto+1, h.group
}

// seek gives an offset at or before the record that holds position pos.
func (s *segment) seek(pos uint64) int64 {
	i := sort.Search(len(s.marks), func(i int) bool { return s.marks[i].first > pos })
	if i == 0 {
		return s.start
	}
	return s.marks[i-1].at
}

func encodeHeader(stream string, first, salt uint64) []byte {
	b := append(make([]byte, 0, headerBytes), magic...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	b = append(b, stream...)
	b = binary.LittleEndian.AppendUint64(b, first)
	b = binary.LittleEndian.AppendUint64(b, salt)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeHeader(b []byte) (stream string, first uint64, seed uint32, err error) {
	if len(b) < headerBytes || string(b[:len(magic)]) != magic {
		return "", 0, 0, fmt.Errorf("it does not begin like a segment")
	}
	at := len(magic)
	if v := binary.LittleEndian.Uint32(b[at:]); v != formatVersion {
		return "", 0, 0, fmt.Errorf("its format version is %d, this program knows %d", v, formatVersion)
	}
	at += 4
	stream = string(b[at : at+streamBytes])
	first = binary.LittleEndian.Uint64(b[at+streamBytes:])
	seed = binary.LittleEndian.Uint32(b[headerBytes-4:])
	if seed != crc32.Checksum(b[:headerBytes-4], castagnoli) || first == 0 || !validStream(stream) {
		return "", 0, 0, fmt.Errorf("the checksum of its header is wrong")
	}
	return stream, first, seed, nil
}

// head is what stands before a record's payload.
type head struct {
	length      uint32
	sum         uint32
	first, upto uint64
	group       int64
}

func (h head) put(dst []byte, seed uint32) {
	le := binary.LittleEndian
	le.PutUint32(dst, h.length)
	le.PutUint32(dst[4:], h.sum)
	le.PutUint64(dst[8:], h.first)
	le.PutUint64(dst[16:], h.upto)
	le.PutUint64(dst[24:], uint64(h.group))
	le.PutUint32(dst[32:], crc32.Update(seed, castagnoli, dst[:32]))
}

// parseHead reads the head at offset at of a file; false where the bytes are no head or can't be one at this place.
func parseHead(b []byte, seed uint32, at int64) (head, bool) {
	le := binary.LittleEndian
	h := head{length: le.Uint32(b), sum: le.Uint32(b[4:]), first: le.Uint64(b[8:]), upto: le.Uint64(b[16:]), group: int64(le.Uint64(b[24:]))}
	ok := h.length > 0 && h.length <= maxPayload && h.first > 0 && h.upto >= h.first && h.upto < math.MaxInt64 &&
		h.group >= int64(headerBytes) && h.group <= at
	return h, ok && le.Uint32(b[32:]) == crc32.Update(seed, castagnoli, b[:32])
}

// window reads a file forward through a buffer, so that scanning needs the same memory for every size of record.
type window struct {
	f    io.ReaderAt
	size int64
	buf  []byte
	off  int64
	have int
}

func newWindow(f io.ReaderAt, size int64) *window {
	return &window{f: f, size: size, buf: make([]byte, 1<<20)}
}

// at gives n bytes (n at most the buffer) from offset off; fewer at the end of the file.
func (w *window) at(off int64, n int) ([]byte, error) {
	n = int(min(int64(n), max(0, w.size-off)))
	if off < w.off || off+int64(n) > w.off+int64(w.have) {
		want := int(min(int64(len(w.buf)), w.size-off))
		got, err := w.f.ReadAt(w.buf[:want], off)
		w.off, w.have = off, got
		if got < want {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	from := int(off - w.off)
	return w.buf[from : from+n], nil
}

// head gives the head at off, if there is one and its payload lies within the file.
func (w *window) head(off int64, seed uint32) (head, bool, error) {
	b, err := w.at(off, headBytes)
	if err != nil || len(b) < headBytes {
		return head{}, false, err
	}
	h, ok := parseHead(b, seed, off)
	return h, ok && off+headBytes+int64(h.length) <= w.size, nil
}

// intact says whether the payload of the record at off is what was written.
func (w *window) intact(h head, off int64) (bool, error) {
	sum := uint32(0)
	for at, end := off+headBytes, off+headBytes+int64(h.length); at < end; {
		b, err := w.at(at, int(min(end-at, int64(len(w.buf)))))
		if err != nil {
			return false, err
		}
		sum = crc32.Update(sum, castagnoli, b)
		at += int64(len(b))
	}
	return sum == h.sum, nil
}

// scan takes in the records from size on that follow each other, up to position limit. It says what stopped it: ""
// for the end of the file or the limit.
func (s *segment) scan(w *window, limit uint64) (why string, err error) {
	for s.size < w.size && s.next < limit {
		h, ok, err := w.head(s.size, s.seed)
		switch {
		case err != nil:
			return "", err
		case !ok:
			return "no whole record", nil
		case h.first != s.next || h.upto >= limit:
			return fmt.Sprintf("a record of positions %d to %d where %d should follow", h.first, h.upto, s.next), nil
		}
		good, err := w.intact(h, s.size)
		if err != nil {
			return "", err
		}
		if !good {
			return "the checksum of a record is wrong", nil
		}
		s.addRecord(h, s.size)
	}
	return "", nil
}

// remains is what still can be read behind a bad record.
type remains struct {
	found   bool // an intact record that goes on above the expected position
	at      int64
	first   uint64
	acked   bool   // a later append began: the bad record had been acknowledged
	highest uint64 // last position that any head names
}

// behind looks for records at every offset after bad.
func (s *segment) behind(w *window, bad int64, limit uint64) (remains, error) {
	var r remains
	for off := bad; off+headBytes <= w.size; off++ {
		h, ok, err := w.head(off, s.seed)
		if err != nil {
			return r, err
		}
		if !ok || h.first < s.next {
			continue
		}
		r.acked = r.acked || h.group > bad
		r.highest = max(r.highest, h.upto)
		if r.found || h.upto >= limit {
			continue
		}
		if r.found, err = w.intact(h, off); err != nil {
			return r, err
		}
		if r.found {
			r.at, r.first = off, h.first
			off += headBytes + int64(h.length) - 1
		}
	}
	return r, nil
}
