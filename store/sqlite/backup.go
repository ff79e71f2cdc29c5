package sqlite

import (
	"context"
	"fmt"
	"math"
	"os"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/store"
)

// problemsTold is how many problems of a damaged file are told.
const problemsTold = 20

// Snapshot writes the store of a file, as it is at one moment, to another file, which must not exist. It may be in use.
func Snapshot(ctx context.Context, from, to string) error {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL, 0o600) // else SQLite would make it readable by everybody
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return onFile(ctx, from, func(c *conn) error { return c.exec("VACUUM INTO ?", to) })
}

// Damaged looks for damage in the pages and indexes of a store's file and tells it, nothing where there is none.
func Damaged(ctx context.Context, path string) (problems []string, err error) {
	err = onFile(ctx, path, func(c *conn) error {
		return c.each(fmt.Sprintf("PRAGMA integrity_check(%d)", problemsTold), func(s *sqlite.Stmt) error {
			if text := s.ColumnText(0); text != "ok" {
				problems = append(problems, text)
			}
			return nil
		})
	})
	return problems, err
}

// onFile runs f on a reading connection of its own to a file that is ours.
func onFile(ctx context.Context, path string, f func(*conn) error) (err error) {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	c, err := openConn(path, true, defaultCache/4)
	if err != nil {
		return explain(ctx, err)
	}
	defer func() {
		if closed := c.close(); err == nil {
			err = closed
		}
	}()
	done := c.interruptBy(ctx)
	if err = checkOwner(c); err == nil {
		err = f(c)
	}
	done()
	return explain(ctx, err)
}

// Sizes says what the archive occupies.
type Sizes struct {
	Events      int64 `json:"events"`
	Blocks      int64 `json:"blocks"`
	SmallBlocks int64 `json:"small_blocks"` // live ones that are not merged yet
	Segments    int64 `json:"segments"`
	First       int64 `json:"-"` // time of the earliest event, µs since 1970
	Last        int64 `json:"-"`
	Horizon     int64 `json:"-"` // math.MinInt64 where there is none
	Names       int64 `json:"names"`
	FileBytes   int64 `json:"file_bytes"`
	LogBytes    int64 `json:"log_bytes"`  // of the file's log
	FreeBytes   int64 `json:"free_bytes"` // of the file: what a compaction gives back at least
}

// Sizes measures the archive.
func (d *DB) Sizes(ctx context.Context) (out Sizes, err error) {
	h, err := d.Horizons(ctx)
	if err != nil {
		return out, err
	}
	out.Horizon = h.Archive
	err = d.read(ctx, "measure the archive", func(c *conn) error {
		for _, x := range []struct {
			to *int64
			q  string
		}{
			{&out.Events, "SELECT (SELECT coalesce(sum(n),0) FROM blk)+(SELECT coalesce(sum(n),0) FROM hot)"},
			{&out.Blocks, "SELECT count(*) FROM blk"}, {&out.SmallBlocks, "SELECT count(*) FROM hot"}, {&out.Segments, "SELECT count(*) FROM seg"},
			{&out.First, "SELECT coalesce(min(tmin),0) FROM blk WHERE n>0"}, {&out.Last, "SELECT coalesce(max(tmax),0) FROM blk WHERE n>0"},
			{&out.Names, "SELECT count(*) FROM name"},
		} {
			if *x.to, err = c.int(x.q); err != nil {
				return err
			}
		}
		pages, err := c.int("PRAGMA freelist_count")
		if err != nil {
			return err
		}
		size, err := c.int("PRAGMA page_size")
		out.FreeBytes = pages * size
		return err
	})
	if err != nil {
		return out, err
	}
	err = d.widen(ctx, &out)
	out.FileBytes, out.LogBytes = fileSize(d.o.Path), fileSize(d.o.Path+"-wal")
	return out, err
}

// widen takes the small blocks into the span of time.
func (d *DB) widen(ctx context.Context, s *Sizes) error {
	if s.SmallBlocks == 0 {
		return nil
	}
	for _, desc := range []bool{false, true} {
		p, err := d.Find(ctx, store.FindRequest{EventFilter: store.EventFilter{From: math.MinInt64, To: math.MaxInt64}, Desc: desc, Limit: 1})
		if err != nil || len(p.Events) == 0 {
			return err
		}
		if desc {
			s.Last = p.Events[0].Time
		} else {
			s.First = p.Events[0].Time
		}
	}
	return nil
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// Compact writes the file anew without its free pages and empties its log. Nothing is written meanwhile; readers go on.
func (d *DB) Compact(ctx context.Context) error {
	if d.o.ReadOnly {
		return fmt.Errorf("compact: store %s is open for reading only", d.o.Path)
	}
	var c *conn
	select {
	case c = <-d.writer:
	case <-ctx.Done():
		return ctx.Err()
	case <-d.base.Done():
		return fmt.Errorf("compact: %w", errClosed)
	}
	defer func() { d.writer <- c }()
	done := c.interruptBy(ctx)
	defer done()
	for _, q := range []string{"VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"} {
		if err := c.exec(q); err != nil {
			return fmt.Errorf("compact: %w", explain(ctx, err))
		}
	}
	return nil
}
