// Package crate keeps events and numbers in CrateDB, which has no transactions.
//
// Everything rests on three rules, found by killing writers and servers until simpler ones failed. A statement goes on
// after its client has died, so every write must be harmless however late it runs. A row that says how far something
// has come is changed only by compare-and-set on its _seq_no and _primary_term, and only an acknowledged one counts: a
// read can be dirty. What is sent to the rows of numbers is the commit that such a row holds (its redo), never what
// this process would compute now.
package crate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/statscache/statscache/internal/failpoint"
	"github.com/statscache/statscache/store"
)

// Options configure a DB.
type Options struct {
	URL      string       // crate://user:pw@host:5432,host2:5432/schema?sslmode=disable
	Logger   *slog.Logger // slog.Default() where nil
	Shards   int          // of the tables of numbers; a partition of events has one. 4 where 0; only for new tables
	Replicas int          // copies of every shard beside the first; one where 0, once there is a second node; only for new tables
	// Statement is the deadline of every single statement, 40 s where 0: longer than a cluster hangs when a node of it
	// stops answering without dying (33 s measured).
	Statement time.Duration
	// Wait is how long Open tries without an answer of the database; 0 is until its context ends.
	Wait time.Duration
	// Away, where set, is told by Open after each attempt why it has to go on trying. Open then waits until the database
	// takes writes, too.
	Away func(error)
	// Failpoint is for crash tests.
	Failpoint failpoint.Hook
}

const (
	defaultShards    = 4
	defaultStatement = 40 * time.Second
	refreshInterval  = 10_000 // ms; whoever needs fresh rows says REFRESH
	closeWithin      = time.Second
)

// DB is a CrateDB store. It is for any number of goroutines.
type DB struct {
	pool     *pgxpool.Pool
	log      *slog.Logger
	opts     Options
	at, user string               // hosts and user, for messages
	deadline func() time.Duration // of one statement; tests shorten it at random

	closed atomic.Bool
	begun  atomic.Bool            // Open has succeeded
	shards atomic.Pointer[string] // of the events, as last seen complete

	commits gate // new commits of this process
	months  months

	mu       sync.Mutex
	streams  map[string]*ownStream
	versions map[string]raised // by metric, as known to this process
	horizons map[horizonOf]int64
	owners   map[string]string      // plugin by metric, as last seen
	series   map[string]seriesCount // by metric, as last counted

	stop context.CancelFunc // of the watch
	done chan struct{}
}

// Open connects, checks that the schema is ours and creates what is missing. While the database is away it tries again
// until ctx ends; a host that no one knows is a mistake, not a database that is away.
func Open(ctx context.Context, o Options) (*DB, error) { return open(ctx, o, nil) }

// open is Open with a deadline for each statement where it isn't nil.
func open(ctx context.Context, o Options, deadline func() time.Duration) (*DB, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Shards <= 0 {
		o.Shards = defaultShards
	}
	if o.Statement <= 0 {
		o.Statement = defaultStatement
	}
	conf, err := parseURL(o.URL, o.Statement)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, conf)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", conf.ConnConfig.Host, err)
	}
	d := &DB{pool: pool, log: o.Logger.With("component", "store"), opts: o,
		streams: map[string]*ownStream{}, versions: map[string]raised{}, horizons: map[horizonOf]int64{}, owners: map[string]string{}, series: map[string]seriesCount{}, done: make(chan struct{})}
	if d.deadline = deadline; deadline == nil {
		d.deadline = func() time.Duration { return o.Statement }
	}
	d.at, d.user = hosts(conf.ConnConfig), conf.ConnConfig.User
	if err := d.begin(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	d.begun.Store(true)
	ctx, d.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(d.done)
		d.watch(ctx)
	}()
	return d, nil
}

// begin prepares the schema and looks around. What takes long because there is much to do may do so.
func (d *DB) begin(ctx context.Context) error {
	answered := func() {}
	if d.opts.Wait > 0 {
		var giveUp context.CancelCauseFunc
		ctx, giveUp = context.WithCancelCause(ctx)
		silent := time.AfterFunc(d.opts.Wait, func() { giveUp(fmt.Errorf("no answer within %s", d.opts.Wait)) })
		answered = func() { silent.Reset(d.opts.Wait) }
		defer giveUp(nil)
		defer silent.Stop()
	}
	if err := d.prepare(ctx, answered); err != nil {
		return err
	}
	answered()
	if d.opts.Away != nil {
		if err := d.writable(ctx); err != nil {
			return err
		}
	}
	return d.look(ctx)
}

// Kind names the engine.
func (d *DB) Kind() string { return "crate" }

// Ping says whether the database answers now.
func (d *DB) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.deadline())
	defer cancel()
	var one int
	if err := d.pool.QueryRow(ctx, "SELECT 1 FROM sys.cluster").Scan(&one); err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, d.inPlainWords(err))
	}
	return nil
}

// Close ends the use of the database. It waits for statements under way, but not for a server that hangs: connections to
// that one end with the process.
func (d *DB) Close() error {
	if d.closed.Swap(true) {
		return nil
	}
	d.stop()
	<-d.done
	closed := make(chan struct{})
	go func() {
		d.pool.Close() // takes until the server has answered that it cancels what was under way
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(closeWithin):
	}
	return nil
}

// exec runs a statement until it is acknowledged; it must be harmless to repeat.
func (d *DB) exec(ctx context.Context, what, sql string, args ...any) error {
	return d.retry(ctx, what, func(ctx context.Context) error { return d.execOnce(ctx, sql, args...) })
}

func (d *DB) execOnce(ctx context.Context, sql string, args ...any) error {
	tag, err := d.pool.Exec(ctx, sql, args...)
	if err != nil {
		return err
	}
	if n := tagCount(tag); n == tagFailed {
		return fmt.Errorf("%w: %q", errShort, tag.String())
	}
	return nil
}

// query runs a read until it has succeeded whole: f is called for every row of an attempt, reset before each attempt.
func (d *DB) query(ctx context.Context, what string, reset func(), f func(pgx.Rows) error, sql string, args ...any) error {
	return d.retry(ctx, what, func(ctx context.Context) error {
		reset()
		return d.queryOnce(ctx, f, sql, args...)
	})
}

func (d *DB) queryOnce(ctx context.Context, f func(pgx.Rows) error, sql string, args ...any) error {
	rows, err := d.pool.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// refresh makes what was acknowledged visible to searches.
func (d *DB) refresh(ctx context.Context, table string) error {
	return d.exec(ctx, "refresh "+table, "REFRESH TABLE "+table)
}

// retry calls f, each time under a deadline of its own, until it succeeds, the database says that the data is at
// fault, or ctx ends.
func (d *DB) retry(ctx context.Context, what string, f func(context.Context) error) error {
	b, said, began := backoff{}, false, time.Now()
	for refused := 0; ; {
		err := d.once(ctx, f)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errGivenUp), d.closed.Load(), refusal(err), !d.begun.Load() && unknownHosts(err):
			return fmt.Errorf("%s: %w", what, d.inPlainWords(err))
		case ctx.Err() == nil && !unavailable(err):
			// Not known to pass by itself. A few more tries, since a node that starts or stops says many things.
			if refused++; refused >= maxRefusals {
				return fmt.Errorf("%s: %w: %w", what, errRefused, d.inPlainWords(err))
			}
		}
		if d.opts.Away != nil && !d.begun.Load() {
			d.opts.Away(d.inPlainWords(err))
		}
		if !b.wait(ctx) {
			return fmt.Errorf("%s: %w: %w (%w)", what, store.ErrUnavailable, d.inPlainWords(err), context.Cause(ctx))
		}
		if !said && time.Since(began) >= warnAfter {
			said = true
			d.log.Warn("database does not answer, trying again", "doing", what, "error", d.inPlainWords(err))
		}
	}
}

func (d *DB) once(ctx context.Context, f func(context.Context) error) error {
	if d.closed.Load() {
		return errClosed
	}
	ctx, cancel := context.WithTimeout(ctx, d.deadline())
	defer cancel()
	return f(ctx)
}

// backoff waits 10 ms at first, up to a second later, each time half of it at random.
type backoff struct{ n int }

func (b *backoff) wait(ctx context.Context) bool {
	most := min(10*time.Millisecond<<min(b.n, 10), time.Second)
	b.n++
	t := time.NewTimer(most/2 + rand.N(most/2))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
