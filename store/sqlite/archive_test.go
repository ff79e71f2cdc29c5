package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/storetest"
)

// small makes stores with segments of 4 blocks, so that a case of a few thousand events seals many.
func small(t testing.TB) storetest.Open[*DB] {
	path := t.TempDir() + "/statscache.db"
	return func(t testing.TB) *DB { return open(t, Options{Path: path, segmentBlocks: 4, smallEvents: 20}) }
}

// TestArchive_RandomLives_IndexesAgreeWithTheEvents plays both lanes of two streams with duplicates, reordering and
// new lives, then compares every index of every segment with the events themselves.
func TestArchive_RandomLives_IndexesAgreeWithTheEvents(t *testing.T) {
	for seed := uint64(1); seed <= 4; seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			again := small(t)
			d := again(t)
			defer func() { _ = d.Close() }()
			m := newModel(t, d, seed)
			for range 150 {
				if m.r.IntN(20) == 0 {
					before := memoryOf(t, d)
					if err := d.Close(); err != nil {
						t.Fatal(err)
					}
					d = again(t)
					if after := memoryOf(t, d); !reflect.DeepEqual(before, after) {
						t.Fatalf("memory differs after reopening:\n%+v\n%+v", before, after)
					}
					m.d = d
				}
				m.play()
			}
			checkIndexes(t, d)
		})
	}
}

// model knows which ids are in the archive.
type model struct {
	t     testing.TB
	r     *rand.Rand
	d     *DB
	seen  map[string]bool
	list  []storetest.Event
	at    [2]uint64
	count int
}

func newModel(t testing.TB, d *DB, seed uint64) *model {
	m := &model{t: t, r: rand.New(rand.NewPCG(seed, seed)), d: d, seen: map[string]bool{}}
	for i := range m.at {
		if _, err := d.Attach(t.Context(), fmt.Sprint("s", i)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// play archives a few blocks and checks the answer.
func (m *model) play() {
	m.t.Helper()
	s := m.r.IntN(len(m.at))
	at := m.at[s]
	var blocks []*block.Block
	var want []int
	for range 1 + m.r.IntN(3) {
		var list []storetest.Event
		fresh := 0
		for range 1 + m.r.IntN([]int{6, 60}[m.r.IntN(2)]) {
			var e storetest.Event
			if len(m.list) > 0 && m.r.IntN(3) == 0 {
				e = m.list[m.r.IntN(len(m.list))]
				e.Time += m.r.Int64N(1_000_000) - 500_000 // a relay that rounds
				if e.Untimed {
					e.Time += m.r.Int64N(1e13)
				}
			} else {
				e = storetest.Event{ID: fmt.Sprint("id-", m.count), Time: int64(m.count)*1e5 + m.r.Int64N(1e9), Untimed: m.r.IntN(40) == 0}
				if m.r.IntN(4) == 0 {
					e.Time -= 1e14 // long ago
				}
				m.count++
				m.list = append(m.list, e)
			}
			if list = append(list, e); !m.seen[e.ID] {
				m.seen[e.ID] = true
				fresh++
			}
		}
		blocks = append(blocks, storetest.Build(at+1, m.r.IntN(3) == 0, list))
		want = append(want, fresh)
		at += uint64(len(list))
	}
	out, err := m.d.Archive(m.t.Context(), fmt.Sprint("s", s), blocks)
	if err != nil {
		m.t.Fatal(err)
	}
	for i, r := range out {
		if r.Owned.Len() != want[i] || r.Duplicates != blocks[i].Len()-want[i] {
			m.t.Fatalf("%d owned and %d duplicates of %d, want %d owned", r.Owned.Len(), r.Duplicates, blocks[i].Len(), want[i])
		}
	}
	m.at[s] = at
}

// tail is an open segment as a test compares it: without pointers.
type tail struct {
	Blocks []int64
	Hashes [][]uint64
	N      int
	Times  [2]int64
	Post   map[uint32][]uint32
	Known  map[uint64]struct{}
	Hot    map[int64][]int
	Next   [3]int64
}

func memoryOf(t testing.TB, d *DB) (out [lanes]tail) {
	t.Helper()
	c := <-d.writer
	defer func() { d.writer <- c }()
	for i, l := range d.arch.lanes {
		x := tail{Blocks: l.blocks, N: l.n, Times: [2]int64{l.tmin, l.tmax}, Post: map[uint32][]uint32{}, Known: l.known, Hot: map[int64][]int{},
			Next: [3]int64{d.arch.nextBlk, d.arch.nextSeg, d.arch.names.next}}
		for id, p := range l.post {
			x.Post[id] = p.list
		}
		for _, h := range l.hashes {
			x.Hashes = append(x.Hashes, slices.Clone(h))
		}
		for _, s := range d.arch.streams {
			for _, b := range s.hot[i].blocks {
				x.Hot[s.no] = append(x.Hot[s.no], b.Len())
			}
		}
		out[i] = x
	}
	return out
}

// checkIndexes compares postings and id buckets of every sealed segment with its blocks.
func checkIndexes(t *testing.T, d *DB) {
	t.Helper()
	err := d.read(t.Context(), "check", func(c *conn) error {
		names, segments := map[int64]string{}, 0
		if err := c.each("SELECT id, kind, s FROM name", func(s *sqlite.Stmt) error {
			names[s.ColumnInt64(0)] = fmt.Sprint(s.ColumnInt64(1), " ", s.ColumnText(2))
			return nil
		}); err != nil {
			return err
		}
		err := c.each("SELECT id, n, tmin, tmax, blocks FROM seg", func(s *sqlite.Stmt) error {
			segments++
			return checkSegment(c, names, s.ColumnInt64(0), s.ColumnInt64(1), [2]int64{s.ColumnInt64(2), s.ColumnInt64(3)}, columnBytes(s, 4))
		})
		if segments < 10 {
			t.Errorf("%d segments: the case seals too little", segments)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkSegment(c *conn, names map[int64]string, id, n int64, span [2]int64, packed []byte) error {
	blocks, err := readDeltas[int64](packed)
	if err != nil {
		return err
	}
	wantPost, wantIDs := map[string][]uint32{}, [][2]uint64{}
	total := int64(0)
	for ordinal, x := range blocks {
		b, err := readBlock(c, x, true)
		if err != nil {
			return err
		}
		hashes, err := hashesOf(b)
		if err != nil {
			return err
		}
		if lo, hi := b.TimeRange(); lo < span[0] || hi > span[1] {
			return fmt.Errorf("segment %d: block %d lies outside", id, x)
		}
		for i := range b.Len() {
			total++
			at := uint32(ordinal<<10 | i)
			_ = eachName(b, i, func(k kind, name uint32) error {
				key := fmt.Sprint(k, " ", b.Names[name])
				wantPost[key] = append(wantPost[key], at)
				return nil
			})
			wantIDs = append(wantIDs, [2]uint64{hashes[i] >> 53, hashes[i]<<11>>18<<18 | uint64(at)})
		}
	}
	if total != n {
		return fmt.Errorf("segment %d has %d events and says %d", id, total, n)
	}
	post := map[string][]uint32{}
	if err := c.each("SELECT k>>24, d FROM post WHERE k&16777215=?", func(s *sqlite.Stmt) error {
		post[names[s.ColumnInt64(0)]] = readPositions(columnBytes(s, 1))
		return nil
	}, id); err != nil {
		return err
	}
	if !reflect.DeepEqual(post, wantPost) {
		return fmt.Errorf("segment %d: postings %v, want %v", id, post, wantPost)
	}
	ids := map[[2]uint64]bool{}
	if err := c.each("SELECT k&65535, d FROM ids WHERE k>>16=?", func(s *sqlite.Stmt) error {
		prev := uint64(0)
		for d := columnBytes(s, 1); len(d) > 0; d = d[8:] {
			x := binary.LittleEndian.Uint64(d)
			if x <= prev {
				return fmt.Errorf("segment %d: bucket %d is not sorted", id, s.ColumnInt64(0))
			}
			prev = x
			ids[[2]uint64{uint64(s.ColumnInt64(0)), x}] = true
		}
		return nil
	}, id); err != nil {
		return err
	}
	for _, x := range wantIDs {
		if !ids[x] {
			return fmt.Errorf("segment %d: no id entry %x among %d", id, x, len(ids))
		}
	}
	if len(ids) != len(wantIDs) {
		return fmt.Errorf("segment %d: %d ids, want %d", id, len(ids), len(wantIDs))
	}
	return nil
}

// readPositions reads what appendPositions wrote.
func readPositions(d []byte) (out []uint32) {
	if len(d) == bitmapBytes {
		for i := range uint32(bitmapBytes * 8) {
			if d[i>>3]>>(i&7)&1 != 0 {
				out = append(out, i)
			}
		}
		return out
	}
	prev := uint32(0)
	for len(d) > 0 {
		x, k := binary.Uvarint(d)
		prev += uint32(x)
		out, d = append(out, prev), d[k:]
	}
	return out
}

// TestDamage_IsAnErrorThatNamesTheBlock changes bytes behind the store's back.
func TestDamage_IsAnErrorThatNamesTheBlock(t *testing.T) {
	for _, table := range []string{"col", "body", "hot"} {
		t.Run(table, func(t *testing.T) {
			again := small(t)
			d := again(t)
			if _, err := d.Attach(t.Context(), "s"); err != nil {
				t.Fatal(err)
			}
			blocks := []*block.Block{storetest.Block(1, storetest.Events("e", 0, 30)), storetest.Block(31, storetest.Events("e", 30, 5))}
			if _, err := d.Archive(t.Context(), "s", blocks); err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			path := d.o.Path
			script(t, path, "UPDATE "+table+" SET d=CAST(substr(d, 1, length(d)/2)||x'ff'||substr(d, length(d)/2+2) AS BLOB)")
			r := open(t, Options{Path: path, ReadOnly: true})
			defer func() { _ = r.Close() }()
			got, _, err := r.Read(t.Context(), store.ReadRequest{Stream: "s", Events: 100, Bodies: true})
			for _, b := range got {
				if _, bad := b.Bodies(); bad != nil { // frames are checked where they are unpacked
					err = bad
				}
			}
			if !errors.Is(err, block.ErrCorrupt) || errors.Is(err, store.ErrUnavailable) {
				t.Fatalf("%v, want ErrCorrupt", err)
			}
		})
	}
}

func TestPositions_DenseOnesBecomeABitmap(t *testing.T) {
	for _, step := range []uint32{1, 3, 8, 100, 20_000} {
		var list []uint32
		for p := uint32(0); p < bitmapBytes*8; p += step {
			list = append(list, p)
		}
		d := appendPositions([]byte("x"), list)[1:]
		if len(d) > bitmapBytes || !slices.Equal(readPositions(d), list) {
			t.Fatalf("step %d: %d positions come back from %d bytes as %d", step, len(list), len(d), len(readPositions(d)))
		}
	}
}

// TestArchive_FullSegment_IsRecognisedAfterSealing fills a real segment with large blocks and offers all of it again.
func TestArchive_FullSegment_IsRecognisedAfterSealing(t *testing.T) {
	if testing.Short() {
		t.Skip("archives 150,000 events")
	}
	again := fresh(t)
	d := again(t)
	defer func() { _ = d.Close() }()
	src := newBus(600)
	if _, err := d.Attach(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	var all []*block.Block
	for range segmentBlocks {
		all = append(all, src.block(false))
	}
	owned := func(blocks []*block.Block) (owned, duplicates int) {
		out, err := d.Archive(t.Context(), "s", blocks)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range out {
			owned, duplicates = owned+r.Owned.Len(), duplicates+r.Duplicates
		}
		return owned, duplicates
	}
	if n, x := owned(all); n != 600*segmentBlocks || x != 0 {
		t.Fatalf("%d owned, %d duplicates", n, x)
	}
	if n, err := d.writerInt("SELECT count(*) FROM seg"); err != nil || n != 1 {
		t.Fatalf("%d segments, %v; want 1", n, err)
	}
	for life := range 2 {
		var copies []*block.Block
		for _, b := range all {
			x := *b
			x.First, x.Upto, x.Backfill = src.next, src.next+uint64(x.Len())-1, life == 1
			src.next = x.Upto + 1
			copies = append(copies, &x)
		}
		if n, x := owned(copies); n != 0 || x != 600*segmentBlocks {
			t.Fatalf("life %d: %d owned, %d duplicates", life, n, x)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d = again(t)
	}
	if blocks, upto, err := d.Read(t.Context(), store.ReadRequest{Stream: "s", Events: 1 << 30}); err != nil || len(blocks) != segmentBlocks || upto != src.next-1 {
		t.Fatalf("%d blocks up to %d, %v", len(blocks), upto, err)
	}
}
