package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
)

const childEnv = "STATSCACHE_JOURNAL_CHILD"

// TestMain lets the test binary be the process that gets killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := appendForever(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// appendForever appends and trims and reports on stdout what was acknowledged and what was declared archived.
func appendForever(dir string) error {
	j, err := Open(Options{Dir: dir, SegmentBytes: 64 << 10})
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(j.Next(), 1))
	for {
		blocks := series(j.Next(), 1+r.IntN(8), 1+r.IntN(20), 200)
		if err := j.Append(blocks); err != nil {
			return err
		}
		last := j.Next() - 1
		fmt.Println("acknowledged", last)
		if r.IntN(20) == 0 {
			to := last - min(last, r.Uint64N(200))
			fmt.Println("archived", to)
			if err := j.Trim(to); err != nil {
				return err
			}
		}
	}
}

func TestJournal_KilledAtRandomMoments_KeepsWhatWasAcknowledged(t *testing.T) {
	lives := 15
	if testing.Short() {
		lives = 3
	}
	dir, r := t.TempDir(), rand.New(rand.NewPCG(1, 2))
	acked, archived, stream := uint64(0), uint64(0), ""
	for life := range lives {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill, lines := 1+r.IntN(60), 0
		for in := bufio.NewScanner(out); in.Scan(); {
			var what string
			var pos uint64
			if _, err := fmt.Sscan(in.Text(), &what, &pos); err != nil {
				continue // cut by the kill
			}
			if what == "acknowledged" {
				acked = max(acked, pos)
			} else {
				archived = max(archived, pos)
			}
			if lines++; lines == kill {
				time.AfterFunc(time.Duration(r.IntN(3000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
			}
		}
		if err := cmd.Wait(); err == nil || lines < kill || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("life %d ended by itself after %d lines: %v", life, lines, err)
		}
		j := open(t, Options{Dir: dir})
		if j.Next() <= acked || stream != "" && stream != j.Stream() {
			t.Fatalf("life %d: next is %d, acknowledged %d, stream %s, was %s", life, j.Next(), acked, j.Stream(), stream)
		}
		stream = j.Stream()
		wantEvents(t, j, archived, j.Next()-1, 1<<20)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if archived == 0 || acked < 500 {
		t.Fatalf("too little happened: acknowledged %d, archived %d", acked, archived)
	}
}

// TestJournal_ReadersAWriterAndATrimmerTogether: every reader sees every position once and in order while segments
// come and go, the bound holds, and nobody is stuck.
func TestJournal_ReadersAWriterAndATrimmerTogether(t *testing.T) {
	const last = 3000
	j := open(t, Options{Dir: t.TempDir(), MaxBytes: 128 << 10, SegmentBytes: 8 << 10, TailBytes: 16 << 10})
	var group sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context()) // the first failure ends all
	defer cancel()
	var mu sync.Mutex
	progress := map[int]uint64{1: 0, 4000: 0, 1 << 20: 0} // by reader
	moved := make(chan struct{}, 1)
	read := func(maxBytes int) error {
		for after := uint64(0); after < last; {
			blocks, err := j.ReadAfter(ctx, after, maxBytes)
			if err != nil {
				return err
			}
			for _, b := range blocks {
				if b.First != after+1 {
					return fmt.Errorf("after %d came %d", after, b.First)
				}
				after = b.Upto
			}
			mu.Lock()
			progress[maxBytes] = after
			mu.Unlock()
			select {
			case moved <- struct{}{}:
			default:
			}
		}
		return nil
	}
	write := func() error {
		for next := uint64(1); next <= last; next = j.Next() {
			err := j.Append([]*block.Block{makeBlock(next, int(min(5, last-next+1)), 150)})
			if errors.Is(err, ErrFull) {
				err = j.WaitRoom(ctx)
			}
			if err != nil {
				return err
			}
			if used, limit := j.Bytes(); used > limit {
				return fmt.Errorf("%d of %d bytes used", used, limit)
			}
		}
		return nil
	}
	trim := func() error { // behind the slowest reader
		for to := uint64(0); to < last; {
			select {
			case <-moved:
			case <-ctx.Done():
				return nil
			}
			mu.Lock()
			to = slices.Min(slices.Collect(maps.Values(progress)))
			mu.Unlock()
			if err := j.Trim(to); err != nil {
				return err
			}
		}
		return nil
	}
	run := func(name string, f func() error) {
		group.Go(func() {
			if err := f(); err != nil {
				t.Errorf("%s: %v", name, err)
				cancel()
			}
		})
	}
	run("write", write)
	run("read singly", func() error { return read(1) })
	run("read some", func() error { return read(4000) })
	run("read all", func() error { return read(1 << 20) })
	run("trim", trim)
	group.Wait()
}
