package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/statscache/statscache/internal/block"
)

// TestAppend_FailsOnceAndSucceedsWhenRepeated lets each single step of an append fail in each way.
func TestAppend_FailsOnceAndSucceedsWhenRepeated(t *testing.T) {
	type failure struct {
		name string
		op   string
		at   int // which step of this kind, from 0
		with fault
		also string // a second kind of step that fails all the time
	}
	eio, enospc := fault{err: syscall.EIO}, fault{err: syscall.ENOSPC, short: 700}
	for _, c := range []failure{
		{"the write", "write", 0, eio, ""}, {"the disk is full in the middle of the write", "write", 0, enospc, ""},
		{"a short write without an error", "write", 0, fault{short: 300}, ""},
		{"a short write that can't be cut back", "write", 0, enospc, "truncate"},
		{"the sync", "sync", 0, eio, ""}, {"the sync, and the cut after it", "sync", 0, eio, "truncate"},
		{"creating a segment", "create", 0, eio, ""}, {"naming a segment", "rename", 0, eio, ""},
		{"making the name durable", "syncdir", 0, eio, ""},
	} {
		for _, rotating := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/rotating=%v", c.name, rotating), func(t *testing.T) {
				d := newDisk()
				opt := Options{Dir: "/d", Files: d, SegmentBytes: 8 << 10, TailBytes: -1}
				j := open(t, opt)
				appendAll(t, j, series(1, 2, 3, 1000)...)
				if rotating {
					appendAll(t, j, series(7, 1, 3, 1000)...)
				}
				next, seen, hit := j.Next(), 0, false
				d.fault = func(op, path string) fault {
					if op == c.also {
						return fault{err: syscall.EIO}
					}
					if op != c.op {
						return fault{}
					}
					if seen++; seen == c.at+1 {
						hit = true
						return c.with
					}
					return fault{}
				}
				blocks := series(next, 3, 2, 150)
				err := j.Append(blocks)
				if !hit && err == nil {
					t.Skip("an append that does not rotate has no such step")
				}
				if err == nil {
					t.Fatal("the failure was not reported")
				}
				if j.Next() != next {
					t.Fatal("what failed counts as appended")
				}
				wantEvents(t, j, 0, next-1, 1000)
				if used, _ := j.Bytes(); !rotating && c.op == "write" && c.also == "" && len(d.entries[segmentPath("/d", 1)].data) != int(used) {
					t.Fatal("half a write was left in the file")
				}
				d.fault = nil
				appendAll(t, j, blocks...)
				if unreliable := c.op == "sync" || c.also != ""; unreliable && d.entries[segmentPath("/d", next)] == nil {
					t.Fatal("the repeated append went to the file that failed")
				}
				appendAll(t, j, makeBlock(next+6, 1, 10))
				wantEvents(t, j, 0, next+6, 1000)
				// A power loss now must find everything, also where the kernel forgot pages in the failed sync.
				for seed := range uint64(20) {
					opt.Files = d.lose(rand.New(rand.NewPCG(seed, 1)))
					wantEvents(t, open(t, opt), 0, next+6, 1000)
				}
			})
		}
	}
}

func TestOpen_MakesDurableWhatAFailedSyncLeftInMemory(t *testing.T) {
	d := newDisk()
	opt := Options{Dir: "/d", Files: d, SegmentBytes: 4 << 10, TailBytes: -1}
	j := open(t, opt)
	appendAll(t, j, makeBlock(1, 1, 1200))
	d.fault = func(op, _ string) fault {
		if op == "sync" || op == "truncate" {
			return fault{err: syscall.EIO}
		}
		return fault{}
	}
	if err := j.Append([]*block.Block{makeBlock(2, 1, 1200)}); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	d.fault = nil
	j = open(t, opt) // the process died without Close; the file's pages look good and clean
	if j.Next() != 3 {
		t.Fatal("the unfinished append was not read, though it looks whole")
	}
	appendAll(t, j, makeBlock(3, 1, 2000)) // in the next segment: its sync says nothing about the first
	if len(d.entries) != 3 {
		t.Fatal("not in a segment of its own")
	}
	onlySynced := newDisk()
	for path, n := range d.durable {
		onlySynced.entries[path] = &inode{data: n.synced, dirty: map[int]bool{}}
	}
	opt.Files = onlySynced
	wantEvents(t, open(t, opt), 0, 3, 1)
}

// A power loss in a rename can leave the temporary name on the file that is a segment by now.
func TestAppend_TemporaryNameOnASegment_LeavesTheSegmentAlone(t *testing.T) {
	d := newDisk()
	j := open(t, Options{Dir: "/d", Files: d, SegmentBytes: 4 << 10, TailBytes: -1})
	appendAll(t, j, makeBlock(1, 3, 1000))
	d.entries["/d/segment.tmp"] = d.entries[segmentPath("/d", 1)]
	appendAll(t, j, makeBlock(4, 3, 1000))
	wantEvents(t, j, 0, 6, 1)
}

func TestTrim_FailsAndSucceedsWhenRepeated(t *testing.T) {
	for _, op := range []string{"create", "write", "sync", "rename", "syncdir", "remove"} {
		t.Run(op, func(t *testing.T) {
			d := newDisk()
			j := open(t, Options{Dir: "/d", Files: d, SegmentBytes: 4 << 10, TailBytes: -1})
			for range 10 {
				appendAll(t, j, makeBlock(j.Next(), 2, 1000))
			}
			used, _ := j.Bytes()
			d.fault = func(got, _ string) fault {
				if got == op {
					return fault{err: syscall.EIO}
				}
				return fault{}
			}
			if err := j.Trim(20); !errors.Is(err, syscall.EIO) {
				t.Fatalf("the failure was not reported: %v", err)
			}
			if left, _ := j.Bytes(); op != "syncdir" && left != used {
				t.Fatalf("%d of %d bytes are counted though nothing was removed", left, used)
			}
			d.fault = nil
			if err := j.Trim(20); err != nil {
				t.Fatal(err)
			}
			if left, _ := j.Bytes(); left != 0 {
				t.Fatalf("%d bytes left", left)
			}
			if names, _ := d.List("/d"); len(names) != 1 {
				t.Fatalf("left behind: %v", names)
			}
			appendAll(t, j, makeBlock(21, 2, 10))
			wantEvents(t, j, 20, 22, 1)
		})
	}
}

// TestJournal_LosesNothingAcknowledged_WhateverFails lives through power losses at random steps, with random faults,
// one life after the other on what the last one left.
func TestJournal_LosesNothingAcknowledged_WhateverFails(t *testing.T) {
	seeds := uint64(150)
	if testing.Short() {
		seeds = 30
	}
	for seed := range seeds {
		s := &survivor{t: t, r: rand.New(rand.NewPCG(seed, 99)), d: newDisk(), seed: seed}
		if seed%2 == 0 {
			s.faults = 0.03
		}
		for range 12 {
			s.live()
		}
	}
}

// survivor drives a journal and knows what it must still have after each life.
type survivor struct {
	t        *testing.T
	r        *rand.Rand
	d        *disk
	seed     uint64
	faults   float64
	stream   string
	acked    uint64 // an Append of everything up to here returned nil
	archived uint64 // told to the journal, and known to the store
}

func (s *survivor) live() {
	image, left := (*disk)(nil), 1+s.r.IntN(60)
	s.d.onStep = func(string, string) {
		if left--; left == 0 {
			image = s.d.lose(s.r)
		}
	}
	s.d.fault = func(op, _ string) fault {
		if image != nil {
			return fault{err: errors.New("the power is gone")}
		}
		if s.r.Float64() < s.faults {
			return fault{err: syscall.EIO, short: s.r.IntN(3000)}
		}
		return fault{}
	}
	for image == nil {
		opt := Options{Dir: "/d", Files: s.d, SegmentBytes: 6 << 10, MaxBytes: 40 << 10, TailBytes: s.r.IntN(8 << 10)}
		if s.r.IntN(2) == 0 {
			opt.ArchivedTo = s.archived
		}
		acked, archived := s.acked, s.archived
		j, err := Open(opt)
		if errors.Is(err, ErrDamaged) {
			s.t.Fatalf("seed %d, acknowledged %d, archived %d: %v", s.seed, acked, archived, err)
		}
		if err != nil {
			continue
		}
		if s.stream != "" && s.stream != j.Stream() || j.Next() <= acked {
			s.t.Fatalf("seed %d: stream %s, was %s; next %d, acknowledged %d", s.seed, j.Stream(), s.stream, j.Next(), acked)
		}
		s.stream = j.Stream()
		wantEvents(s.t, j, archived, j.Next()-1, 2000)
		s.work(j, func() bool { return image != nil })
		if image == nil {
			_ = j.Close()
		}
	}
	s.d = image
}

// work appends and trims until the life ends or a restart is due.
func (s *survivor) work(j *Journal, dead func() bool) {
	for !dead() && s.r.IntN(30) > 0 {
		if s.r.IntN(4) == 0 && j.Next()-1 > s.archived {
			to := s.archived + 1 + s.r.Uint64N(j.Next()-1-s.archived)
			if s.r.IntN(2) == 0 {
				to = j.Next() - 1
			}
			s.archived = to
			_ = j.Trim(to)
			continue
		}
		var blocks []*block.Block
		for next := j.Next(); len(blocks) < 1+s.r.IntN(3); next = blocks[len(blocks)-1].Upto + 1 {
			blocks = append(blocks, makeBlock(next, 1+s.r.IntN(4), s.r.IntN(900)))
		}
		for tries := 0; !dead(); tries++ {
			err := j.Append(blocks)
			if tries > 1000 {
				s.t.Fatalf("seed %d: does not recover: %v", s.seed, err)
			}
			if err == nil && !dead() {
				s.acked = blocks[len(blocks)-1].Upto
			}
			if err == nil || errors.Is(err, ErrFull) {
				break
			}
		}
	}
}

func TestOpen_TornAtEveryByteOfTheLastAppend(t *testing.T) {
	d := newDisk()
	opt := Options{Dir: "/d", Files: d}
	j := open(t, opt)
	appendAll(t, j, series(1, 2, 2, 30)...)
	path := segmentPath("/d", 1)
	whole := len(d.entries[path].data)
	appendAll(t, j, series(5, 2, 1, 30)...)
	data := d.entries[path].data
	st, _ := readState(d, "/d")
	middle := 0 // end of the first record of the last append
	for cut := whole; cut <= len(data); cut++ {
		for _, zeros := range []bool{false, true} { // a short file, or one whose last pages never arrived
			torn := append([]byte(nil), data[:cut]...)
			if zeros {
				torn = append(torn, make([]byte, len(data)-cut)...)
			}
			opt.Files = &disk{entries: map[string]*inode{path: {data: torn, dirty: map[int]bool{}},
				"/d/stream": {data: st.encode()}}, durable: map[string]*inode{}}
			j, err := Open(opt)
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			next := j.Next()
			if next == 6 && middle == 0 {
				middle = cut
			}
			if want := uint64(5); cut == len(data) && next != 7 || cut < len(data) && middle == 0 && next != want {
				t.Fatalf("cut at %d of %d: next is %d", cut, len(data), next)
			}
			appendAll(t, j, makeBlock(next, 2, 40))
			wantEvents(t, j, 0, next+1, 1)
			wantEvents(t, open(t, opt), 0, next+1, 1)
		}
	}
	if middle == 0 {
		t.Fatal("the first record of the torn append was never kept")
	}
}

func TestOpen_FlippedByte(t *testing.T) {
	for _, c := range []struct {
		name     string
		segment  uint64 // that is damaged
		record   uint64 // in which the byte is flipped; 0: the header
		archived uint64
		clean    bool // the journal was closed
		cut      uint64
	}{
		{name: "in the last record after a crash is a torn append", segment: 7, record: 9, cut: 9},
		{name: "in the last record after a clean end is damage", segment: 7, record: 9, clean: true},
		{name: "in the middle of the last segment is damage", segment: 7, record: 8},
		{name: "in a segment that is not the last is damage", segment: 4, record: 6},
		{name: "in a header is damage", segment: 4},
		{name: "in the last header is damage", segment: 7},
		{name: "in what is archived is passed over", segment: 4, record: 4, archived: 5, cut: 10},
		{name: "in the last segment where it is archived is passed over", segment: 7, record: 8, archived: 8, cut: 10},
		{name: "in a segment that is archived whole does not matter", segment: 1, archived: 3, cut: 10},
		{name: "just above what is archived is damage", segment: 4, record: 6, archived: 5},
		{name: "in the last record after a clean end where all is archived", segment: 7, record: 9, archived: 9, clean: true, cut: 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			for r := range 25 {
				d := newDisk()
				opt := Options{Dir: "/d", Files: d, SegmentBytes: 4 << 10}
				j := open(t, opt)
				for range 9 { // three to a segment
					appendAll(t, j, makeBlock(j.Next(), 1, 1200))
				}
				if c.clean {
					j.Close()
				}
				path := segmentPath("/d", c.segment)
				from, n := 0, headerBytes
				if c.record > 0 {
					size := (len(d.entries[path].data) - headerBytes) / 3
					from, n = headerBytes+size*int(c.record-c.segment), size
				}
				if len(d.entries) != 4 {
					t.Fatalf("unexpected layout: %d entries", len(d.entries))
				}
				d.entries[path].data[from+rand.New(rand.NewPCG(uint64(r), 5)).IntN(n)] ^= 4
				opt.ArchivedTo = c.archived
				j, err := Open(opt)
				if err == nil && c.cut == 0 { // only the last segment is read at once
					err = readThrough(t, j)
				}
				if c.cut == 0 {
					if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "at offset") {
						t.Fatalf("round %d: %v", r, err)
					}
					continue
				}
				if err != nil {
					t.Fatalf("round %d: %v", r, err)
				}
				if j.Next() != c.cut {
					t.Fatalf("round %d: next is %d, want %d", r, j.Next(), c.cut)
				}
				appendAll(t, j, makeBlock(c.cut, 1, 1200))
				wantEvents(t, j, c.archived, c.cut, 1)
				wantEvents(t, open(t, opt), c.archived, c.cut, 1)
			}
		})
	}
}

func TestOpen_MissingSegment(t *testing.T) {
	for _, c := range []struct {
		remove   uint64
		archived uint64
		ok       bool
	}{{1, 0, false}, {4, 0, false}, {10, 0, false}, {1, 3, true}, {4, 6, true}, {10, 10, true}, {4, 5, false}} {
		d := newDisk()
		opt := Options{Dir: "/d", Files: d, SegmentBytes: 4 << 10}
		j := open(t, opt)
		for range 10 {
			appendAll(t, j, makeBlock(j.Next(), 1, 1200))
		}
		j.Close()
		if d.entries[segmentPath("/d", c.remove)] == nil {
			t.Fatalf("no segment at %d", c.remove)
		}
		delete(d.entries, segmentPath("/d", c.remove))
		opt.ArchivedTo = c.archived
		j, err := Open(opt)
		if err == nil && j.Next() != 11 {
			t.Fatalf("%+v: next is %d", c, j.Next())
		}
		if err == nil {
			err = readThrough(t, j)
		}
		if c.ok {
			if err != nil {
				t.Fatalf("%+v: %v", c, err)
			}
			continue
		}
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "missing") && !strings.Contains(err.Error(), "ends at position") {
			t.Fatalf("%+v: %v", c, err)
		}
	}
}

// TestOpen_BodyThatImitatesARecord: whoever sends events must not be able to make a torn append look like damage.
func TestOpen_BodyThatImitatesARecord(t *testing.T) {
	d := newDisk()
	opt := Options{Dir: "/d", Files: d}
	j := open(t, opt)
	appendAll(t, j, makeBlock(1, 1, 100))
	var fake []byte
	for group := range 20 {
		var b [headBytes]byte
		payload := makeBlock(2, 1, 1).Append(nil)
		head{length: uint32(len(payload)), first: 2, upto: 2, group: int64(headerBytes + 50*group)}.put(b[:], 0)
		fake = append(append(fake, b[:]...), payload...)
	}
	path := segmentPath("/d", 1)
	d.entries[path].data = append(d.entries[path].data, fake...)
	wantEvents(t, open(t, opt), 0, 1, 1)
}
