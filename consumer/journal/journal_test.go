package journal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/statscache/statscache/internal/block"
)

// makeBlock gives a block of n events from position first on. Bodies are random, so that sizes don't depend on luck.
func makeBlock(first uint64, n, bodyBytes int) *block.Block {
	r := rand.New(rand.NewPCG(first, uint64(n)))
	w := block.NewBuilder(func(string) string { return "cat" })
	for i := range n {
		body := make([]byte, bodyBytes)
		for k := range body {
			body[k] = byte(r.Uint32())
		}
		w.Add(&block.Event{ID: fmt.Appendf(nil, "id-%d", first+uint64(i)), IDAt: -1, Topic: []byte("org.x.prod.cat.t"),
			Time: int64(first) + int64(i), Source: "ep", Body: body})
	}
	return w.Build(first, 7, false)
}

// series gives blocks of n events each, from position first on.
func series(first uint64, blocks, n, bodyBytes int) (out []*block.Block) {
	for range blocks {
		out = append(out, makeBlock(first, n, bodyBytes))
		first += uint64(n)
	}
	return out
}

func open(t testing.TB, opt Options) *Journal {
	t.Helper()
	j, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func appendAll(t testing.TB, j *Journal, blocks ...*block.Block) {
	t.Helper()
	if err := j.Append(blocks); err != nil {
		t.Fatal(err)
	}
}

// wantEvents reads everything after a position and checks every id, body and position up to upto.
func wantEvents(t testing.TB, j *Journal, after, upto uint64, maxBytes int) {
	t.Helper()
	if j.Next() != upto+1 { // reading on would wait for ever
		t.Fatalf("next is %d, want %d", j.Next(), upto+1)
	}
	for after < upto {
		blocks, err := j.ReadAfter(t.Context(), after, maxBytes)
		if err != nil {
			t.Fatalf("read after %d: %v", after, err)
		}
		for _, b := range blocks {
			if b.First > after+1 || b.Upto <= after {
				t.Fatalf("after %d came a block of %d to %d", after, b.First, b.Upto)
			}
			want := makeBlock(b.First, b.Len(), b.BodyBytes/max(1, b.Len()))
			if string(want.Append(nil)) != string(b.Append(nil)) {
				t.Fatalf("block at %d is not the one that was appended", b.First)
			}
			after = b.Upto
		}
	}
	if after != upto {
		t.Fatalf("read up to %d, want %d", after, upto)
	}
}

func segmentFiles(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestJournal_KeepsItsBlocksAndItsNumberingAcrossReopening(t *testing.T) {
	opt := Options{Dir: filepath.Join(t.TempDir(), "a", "journal")}
	j := open(t, opt)
	if j.Next() != 1 || !validStream(j.Stream()) {
		t.Fatalf("begins at %d with stream %q", j.Next(), j.Stream())
	}
	appendAll(t, j, series(1, 5, 10, 100)...)
	appendAll(t, j, makeBlock(51, 1, 0))
	wantEvents(t, j, 0, 51, 1<<20)
	stream := j.Stream()
	for range 3 {
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = open(t, opt)
		if j.Stream() != stream {
			t.Fatal("another stream after reopening")
		}
		last := j.Next() - 1
		wantEvents(t, j, 0, last, 1<<20)
		appendAll(t, j, series(last+1, 3, 7, 50)...)
		wantEvents(t, j, 0, last+21, 1<<20)
	}
	if got, err := StreamOf(nil, opt.Dir); err != nil || got != stream {
		t.Fatalf("StreamOf: %q, %v", got, err)
	}
	if info, err := os.Stat(opt.Dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("mode of the folder: %v, %v", info.Mode(), err)
	}
}

func TestAppend_RefusesWhatDoesNotFollow(t *testing.T) {
	j := open(t, Options{Dir: t.TempDir()})
	for _, first := range []uint64{0, 2} {
		if err := j.Append([]*block.Block{makeBlock(first, 1, 1)}); err == nil {
			t.Fatalf("a block at %d was taken", first)
		}
	}
	if err := j.Append([]*block.Block{makeBlock(1, 2, 1), makeBlock(4, 1, 1)}); err == nil {
		t.Fatal("a gap was taken")
	}
	appendAll(t, j, makeBlock(1, 2, 1))
	if err := j.Append([]*block.Block{makeBlock(1, 2, 1)}); err == nil {
		t.Fatal("the same positions were taken twice")
	}
}

func TestJournal_RotatesTrimsAndNeverNumbersAnew(t *testing.T) {
	opt := Options{Dir: t.TempDir(), SegmentBytes: 8 << 10, TailBytes: -1}
	j := open(t, opt)
	for range 50 {
		appendAll(t, j, series(j.Next(), 2, 5, 100)...)
	}
	before := len(segmentFiles(t, opt.Dir))
	if before < 5 {
		t.Fatalf("%d segments", before)
	}
	wantEvents(t, j, 0, 500, 3000)
	if err := j.Trim(250); err != nil {
		t.Fatal(err)
	}
	if n := len(segmentFiles(t, opt.Dir)); n > before*2/3 {
		t.Fatalf("%d of %d segments left", n, before)
	}
	wantEvents(t, j, 250, 500, 3000)
	if _, err := j.ReadAfter(t.Context(), 0, 1); !errors.Is(err, ErrTrimmed) {
		t.Fatalf("reading what was trimmed: %v", err)
	}
	if err := j.Trim(501); err == nil {
		t.Fatal("trimmed beyond the end")
	}
	if err := j.Trim(500); err != nil {
		t.Fatal(err)
	}
	for range 2 { // with and without a clean end
		used, _ := j.Bytes()
		if n := len(segmentFiles(t, opt.Dir)); n > 1 || used > opt.SegmentBytes/4 {
			t.Fatalf("after a full trim %d segments and %d bytes are left", n, used)
		}
		j.Close()
		j = open(t, opt)
		if j.Next() != 501 {
			t.Fatalf("after a full trim the numbering starts at %d", j.Next())
		}
	}
	appendAll(t, j, makeBlock(501, 3, 10))
	wantEvents(t, j, 500, 503, 1000)
}

func TestAppend_FullUntilTrimmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opt := Options{Dir: "/d", MaxBytes: 64 << 10, Files: newDisk()}
		j := open(t, opt)
		var err error
		for err == nil {
			err = j.Append([]*block.Block{makeBlock(j.Next(), 1, 1000)})
			if used, limit := j.Bytes(); used > limit {
				t.Fatalf("%d of %d bytes", used, limit)
			}
		}
		if !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		next := j.Next()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- j.WaitRoom(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		go func() { done <- j.WaitRoom(t.Context()) }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("room without a trim: %v", err)
		default:
		}
		if err := j.Trim(next / 2); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		appendAll(t, j, makeBlock(next, 1, 1000))
		wantEvents(t, j, next/2, next, 5000)
	})
}

func TestAppend_LargerThanTheBound_GoesOnAnEmptyJournal(t *testing.T) {
	j := open(t, Options{Dir: t.TempDir(), MaxBytes: 32 << 10})
	appendAll(t, j, makeBlock(1, 100, 1000))
	if err := j.Append([]*block.Block{makeBlock(101, 100, 1000)}); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	if err := j.Trim(100); err != nil {
		t.Fatal(err)
	}
	if err := j.WaitRoom(t.Context()); err != nil {
		t.Fatal(err)
	}
	appendAll(t, j, makeBlock(101, 100, 1000))
	wantEvents(t, j, 100, 200, 1)
}

func TestReadAfter_FromMemoryFromDiskAndAcross(t *testing.T) {
	opt := Options{Dir: t.TempDir(), SegmentBytes: 16 << 10, TailBytes: 8 << 10}
	j := open(t, opt)
	appendAll(t, j, series(1, 300, 3, 200)...)
	for range 30 {
		appendAll(t, j, makeBlock(j.Next(), 3, 200))
	}
	last := j.Next() - 1
	for _, maxBytes := range []int{-1, 0, 1, 700, 5000, 1 << 30} {
		wantEvents(t, j, 0, last, maxBytes)
	}
	for after := range last { // every position is reachable, also from inside a block
		blocks, err := j.ReadAfter(t.Context(), after, 1)
		if err != nil || len(blocks) != 1 || blocks[0].First > after+1 || blocks[0].Upto <= after {
			t.Fatalf("after %d: %v, %v", after, blocks, err)
		}
	}
	if _, err := j.ReadAfter(t.Context(), last+1, 1); err == nil {
		t.Fatal("read after a position that does not exist")
	}
	for _, path := range segmentFiles(t, opt.Dir) { // memory needs no files
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	blocks, err := j.ReadAfter(t.Context(), last-3, 1)
	if err != nil || blocks[0].Upto != last {
		t.Fatalf("from memory: %v", err)
	}
}

func TestReadAfter_WaitsAndCloseWakesEveryone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := open(t, Options{Dir: "/d", Files: newDisk(), MaxBytes: 16 << 10})
		got := make(chan error, 4)
		read := func(after uint64) {
			blocks, err := j.ReadAfter(t.Context(), after, 1<<20)
			if err == nil && blocks[0].First != after+1 {
				err = fmt.Errorf("got a block at %d", blocks[0].First)
			}
			got <- err
		}
		go read(0)
		go read(0)
		synctest.Wait()
		appendAll(t, j, makeBlock(1, 1, 15<<10))
		for range 2 {
			if err := <-got; err != nil {
				t.Fatal(err)
			}
		}
		if err := j.Append([]*block.Block{makeBlock(2, 1, 15<<10)}); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		go read(1)
		go func() { got <- j.WaitRoom(t.Context()) }()
		synctest.Wait()
		if err := errors.Join(j.Close(), j.Close()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := <-got; !errors.Is(err, ErrClosed) {
				t.Fatal(err)
			}
		}
		for name, err := range map[string]error{"append": j.Append([]*block.Block{makeBlock(2, 1, 1)}), "trim": j.Trim(1),
			"start": j.SetStart(9)} {
			if !errors.Is(err, ErrClosed) {
				t.Fatalf("%s: %v", name, err)
			}
		}
	})
}

func TestSetStart_MovesTheNumberingUpOnly(t *testing.T) {
	opt := Options{Dir: t.TempDir()}
	j := open(t, opt)
	appendAll(t, j, makeBlock(1, 10, 10))
	if err := j.SetStart(5); err != nil || j.Next() != 11 {
		t.Fatalf("next is %d, %v", j.Next(), err)
	}
	if err := j.SetStart(1000); err != nil || j.Next() != 1000 {
		t.Fatalf("next is %d, %v", j.Next(), err)
	}
	if used, _ := j.Bytes(); used != 0 {
		t.Fatalf("%d bytes left", used)
	}
	if _, err := j.ReadAfter(t.Context(), 5, 1); !errors.Is(err, ErrTrimmed) {
		t.Fatal(err)
	}
	j = open(t, opt)
	appendAll(t, j, makeBlock(1000, 1, 10))
	wantEvents(t, j, 999, 1000, 1)
	j.Close()
	opt.ArchivedTo = 5000 // the store is ahead: new positions must lie above
	j = open(t, opt)
	appendAll(t, j, makeBlock(5001, 1, 10))
	wantEvents(t, j, 5000, 5001, 1)
	j.Close()
	opt.ArchivedTo = 0
	wantEvents(t, open(t, opt), 5000, 5001, 1)
}

func TestOpen_RebuildsAMissingStreamFile(t *testing.T) {
	opt := Options{Dir: t.TempDir(), SegmentBytes: 4 << 10}
	j := open(t, opt)
	for range 10 {
		appendAll(t, j, makeBlock(j.Next(), 2, 1000))
	}
	if err := j.Trim(9); err != nil {
		t.Fatal(err)
	}
	stream := j.Stream()
	j.Close()
	path := filepath.Join(opt.Dir, stateName)
	good, _ := os.ReadFile(path)
	for i := range good {
		bad := append([]byte(nil), good...)
		bad[i] ^= 1
		os.WriteFile(path, bad, 0o600)
		if _, err := Open(opt); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	os.Remove(path)
	if got, err := StreamOf(nil, opt.Dir); err != nil || got != stream {
		t.Fatalf("StreamOf: %q, %v", got, err)
	}
	j = open(t, opt)
	if j.Stream() != stream {
		t.Fatal("another stream")
	}
	wantEvents(t, j, 9, 20, 1)
}
