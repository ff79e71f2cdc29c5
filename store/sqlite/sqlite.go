// Package sqlite keeps a statscache store in one SQLite file.
//
// One connection writes, behind a semaphore that archive, ledger, catalog and upkeep share; a few others read beside
// it. Everything a writing call does is one transaction with synchronous=FULL: when it returns, it is on disk. What is
// held in memory (the open segments, dictionaries, versions) is a copy of what the file says and is read again whenever
// a transaction failed or another process wrote.
package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/internal/failpoint"
	"github.com/statscache/statscache/store"
)

var _ store.Store = (*DB)(nil)

const (
	defaultCache = 32 << 20
	maxReaders   = 8
	minVersion   = "3.51.3" // older ones can corrupt a WAL database: sqlite.org/wal.html, the WAL-reset bug
)

// errClosed is what calls answer after Close.
var errClosed = errors.New("sqlite store is closed")

// Options say which file and how.
type Options struct {
	Path       string
	ReadOnly   bool             // beside the process that writes: nothing is created, migrated or changed
	Logger     *slog.Logger     // nil discards
	Now        func() time.Time // nil is time.Now
	CacheBytes int              // page cache of all connections together; 0 for 32 MiB
	Failpoint  failpoint.Hook   // for crash tests

	segmentBlocks, smallEvents int // tests make segments and small blocks smaller
}

// DB is an open store. All its methods may be called from any goroutine.
type DB struct {
	o   Options
	log *slog.Logger
	now func() time.Time

	base   context.Context // done once Close has begun
	cancel context.CancelFunc
	closed sync.Once
	bg     sync.WaitGroup

	writer  chan *conn // holds the writing connection while nobody writes
	readers chan *conn // idle reading connections; nil entries are yet to be opened

	// What follows belongs to whoever holds the writing connection.
	lastSeen  int64    // PRAGMA data_version: changes when another process has written
	arch      *archive // nil when it has to be read from the file again
	archDirty bool     // the transaction under way has changed it

	found    findCache // of readers
	taken    takenKeys
	ledger   ledger
	versions atomic.Pointer[map[string]*atomic.Uint64] // by metric; the map is replaced, never changed
}

// Open opens or creates a store. ErrForeign, ErrNewer: the file is not for us and was left as it is.
func Open(ctx context.Context, o Options) (*DB, error) {
	d := &DB{o: o, log: o.Logger, now: o.Now, writer: make(chan *conn, 1), readers: make(chan *conn, maxReaders)}
	if d.log == nil {
		d.log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if d.now == nil {
		d.now = time.Now
	}
	if d.o.CacheBytes <= 0 {
		d.o.CacheBytes = defaultCache
	}
	d.o.segmentBlocks, d.o.smallEvents = cmp.Or(o.segmentBlocks, segmentBlocks), cmp.Or(o.smallEvents, smallEvents)
	d.base, d.cancel = context.WithCancel(context.Background())
	d.ledger = newLedger()
	d.versions.Store(&map[string]*atomic.Uint64{})
	for range maxReaders {
		d.readers <- nil
	}
	c, err := d.openMain(ctx)
	if err != nil {
		d.cancel()
		return nil, fmt.Errorf("open store %s: %w", o.Path, err)
	}
	d.writer <- c
	if o.ReadOnly {
		d.bg.Add(1)
		go d.follow()
	}
	return d, nil
}

// openMain opens the writing connection and brings the file and the memory up to date.
func (d *DB) openMain(ctx context.Context) (*conn, error) {
	if d.o.ReadOnly {
		if _, err := os.Stat(d.o.Path); err != nil {
			return nil, fmt.Errorf("%w: %w", store.ErrUnavailable, err)
		}
	}
	if !d.o.ReadOnly {
		// SQLite would make it readable by everybody. The files beside it get the rights of this one.
		if f, err := os.OpenFile(d.o.Path, os.O_CREATE|os.O_EXCL, 0o640); err == nil { // else SQLite says what is wrong, if anything
			_ = f.Close() // nothing was written
		}
	}
	c, err := openConn(d.o.Path, d.o.ReadOnly, d.o.CacheBytes/2)
	if err != nil {
		return nil, explain(ctx, err)
	}
	done := c.interruptBy(ctx)
	err = d.prepare(c)
	done()
	if err != nil {
		_ = c.close()
		return nil, explain(ctx, err)
	}
	return c, nil
}

func (d *DB) prepare(c *conn) error {
	if err := checkVersion(c); err != nil {
		return err
	}
	if err := checkOwner(c); err != nil {
		return err
	}
	if err := c.pragmas(d.o.ReadOnly); err != nil {
		return err
	}
	if d.o.ReadOnly {
		if err := checkMigrated(c); err != nil {
			return err
		}
		return d.loadVersions(c)
	}
	if err := d.migrate(c); err != nil {
		return err
	}
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := d.reload(c)
	if err == nil {
		d.arch, err = loadArchive(c, d)
	}
	return c.end(err)
}

// reload reads again what memory holds of the file.
func (d *DB) reload(c *conn) (err error) {
	if d.lastSeen, err = c.int("PRAGMA data_version"); err != nil {
		return err
	}
	d.arch = nil // read again when it is needed
	if err := d.ledger.reload(c); err != nil {
		return err
	}
	return d.loadVersions(c)
}

// Kind is "sqlite".
func (d *DB) Kind() string { return "sqlite" }

// Ping reads from the file.
func (d *DB) Ping(ctx context.Context) error {
	return d.read(ctx, "ping", func(c *conn) error {
		_, err := c.int("SELECT count(*) FROM sqlite_schema")
		return err
	})
}

// Close waits for what is under way, reads of which are interrupted, and closes the file. A second Close does nothing.
func (d *DB) Close() error {
	var errs []error
	d.closed.Do(func() {
		d.cancel()
		d.bg.Wait()
		for range maxReaders {
			if c := <-d.readers; c != nil {
				errs = append(errs, c.close())
			}
		}
		errs = append(errs, (<-d.writer).close())
	})
	return errors.Join(errs...)
}

// follow keeps the versions of a read-only store up to date.
func (d *DB) follow() {
	defer d.bg.Done()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-d.base.Done():
			return
		case <-tick.C:
		}
		if err := d.refresh(); err != nil && d.base.Err() == nil {
			d.log.Warn("cannot follow the store", "path", d.o.Path, "error", err)
		}
	}
}

func (d *DB) refresh() error {
	c := <-d.writer
	defer func() { d.writer <- c }()
	seen, err := c.int("PRAGMA data_version")
	if err != nil || seen == d.lastSeen {
		return err
	}
	if err := d.loadVersions(c); err != nil {
		return err
	}
	d.lastSeen = seen
	return nil
}

// write runs f in one transaction of the writing connection. When it fails, memory that f may have changed is read
// from the file again before it is used next.
func (d *DB) write(ctx context.Context, op string, f func(c *conn) error) error {
	if d.o.ReadOnly {
		return fmt.Errorf("%s: store %s is open for reading only", op, d.o.Path)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	var c *conn
	select {
	case <-d.base.Done():
		return fmt.Errorf("%s: %w", op, errClosed)
	default:
	}
	select {
	case c = <-d.writer:
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", op, ctx.Err())
	case <-d.base.Done():
		return fmt.Errorf("%s: %w", op, errClosed)
	}
	defer func() { d.writer <- c }()
	done := c.interruptBy(ctx)
	d.archDirty, c.committed = false, c.committed[:0]
	err := c.begin.step()
	if err == nil {
		if err = d.catchUp(c); err == nil {
			err = f(c)
		}
		if err == nil {
			err = c.commit.step()
		}
	}
	done() // a roll-back is not to be interrupted
	if err != nil {
		c.rollback()
		if d.archDirty {
			d.arch = nil
		}
		return fmt.Errorf("%s: %w", op, explain(ctx, err))
	}
	for _, f := range c.committed {
		f()
	}
	return nil
}

// catchUp reads memory again when another process has written since this one last did.
func (d *DB) catchUp(c *conn) error {
	seen, err := c.int("PRAGMA data_version")
	if err != nil || seen == d.lastSeen {
		return err
	}
	return d.reload(c)
}

// read runs f in one read transaction: it sees whole commits only, all of one moment.
func (d *DB) read(ctx context.Context, op string, f func(c *conn) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(d.base, func() { cancel(errClosed) })()
	if d.base.Err() != nil {
		return fmt.Errorf("%s: %w", op, errClosed)
	}
	var c *conn
	select {
	case c = <-d.readers:
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
	err := d.readOn(ctx, &c, f)
	d.readers <- c
	if err != nil {
		return fmt.Errorf("%s: %w", op, explain(ctx, err))
	}
	return nil
}

func (d *DB) readOn(ctx context.Context, c **conn, f func(c *conn) error) (err error) {
	if *c == nil {
		fresh, err := openConn(d.o.Path, true, d.o.CacheBytes/2/maxReaders)
		if err != nil {
			return err
		}
		if err := fresh.pragmas(true); err != nil {
			_ = fresh.close()
			return err
		}
		*c = fresh
	}
	done := (*c).interruptBy(ctx)
	if err = (*c).exec("BEGIN"); err == nil {
		err = f(*c)
	}
	done()
	(*c).rollback()
	return err
}

// explain gives an error the meaning that callers test for.
func explain(ctx context.Context, err error) error {
	if code := sqlite.ErrCode(err); code.ToPrimary() == sqlite.ResultInterrupt && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if sqlite.ErrCode(err).ToPrimary() == sqlite.ResultNotADB {
		return fmt.Errorf("%w: the file is not a SQLite database; point statscache.store.url at another file", store.ErrForeign)
	}
	if unavailable(err) {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}

// corruptFS is SQLITE_IOERR_CORRUPTFS: repeating the call doesn't mend it.
const corruptFS = sqlite.ResultIOErr | 33<<8

func unavailable(err error) bool {
	code := sqlite.ErrCode(err)
	switch code.ToPrimary() {
	case sqlite.ResultBusy, sqlite.ResultLocked, sqlite.ResultFull, sqlite.ResultCantOpen, sqlite.ResultProtocol:
		return true
	case sqlite.ResultIOErr:
		return code != corruptFS
	}
	return false
}
