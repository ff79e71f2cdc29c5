package crate

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/statscache/statscache/store"
)

const (
	deadLetters = "dead letters"

	keyColumns = 3       // dimensions with a column of their own
	sendRows   = 2000    // rows in one statement
	sendBytes  = 4 << 20 // of their documents
)

// A row of counts takes a commit once: each carries the position of the last one it took. A statement that comes late
// carries a position that has been durable before, so it does nothing.
const upsertCounters = "INSERT INTO counters (metric, generation, gran, bucket, dkey, slot, k1, k2, k3, n, pos, was, was_pos) " +
	"(SELECT m, g, i, b, d, s, k1, k2, k3, n, p, 0, 0 FROM UNNEST($1::text[], $2::integer[], $3::bigint[], $4::bigint[], $5::text[], " +
	"$6::text[], $7::text[], $8::text[], $9::text[], $10::bigint[], $11::bigint[]) AS u(m, g, i, b, d, s, k1, k2, k3, n, p)) " +
	"ON CONFLICT (metric, generation, gran, bucket, dkey, slot) DO UPDATE SET " +
	"n = CASE WHEN excluded.pos > pos THEN n + excluded.n ELSE n END, " +
	"was = CASE WHEN excluded.pos > pos THEN n ELSE was END, " +
	"was_pos = CASE WHEN excluded.pos > pos THEN pos ELSE was_pos END, " +
	"pos = CASE WHEN excluded.pos > pos THEN excluded.pos ELSE pos END"

// The newest value wins, however often and however late it comes.
const newer = "CASE WHEN excluded.ts > ts OR (excluded.ts = ts AND excluded.id > id) THEN excluded."

const upsertLatest = "INSERT INTO latest (metric, generation, dkey, ts, id, doc) (SELECT * FROM UNNEST(" +
	"$1::text[], $2::integer[], $3::text[], $4::bigint[], $5::text[], $6::text[])) " +
	"ON CONFLICT (metric, generation, dkey) DO UPDATE SET " +
	"ts = " + newer + "ts ELSE ts END, id = " + newer + "id ELSE id END, doc = " + newer + "doc ELSE doc END"

// The latest of what was said of a letter stands: that it was taken back comes after that it was dead.
const upsertDead = "INSERT INTO dead_letters (plugin, generation, stream, seq, id, error, at) (SELECT * FROM UNNEST(" +
	"$1::text[], $2::integer[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::bigint[])) " +
	"ON CONFLICT (plugin, generation, stream, seq) DO UPDATE SET " +
	"id = " + later + "id ELSE id END, error = " + later + "error ELSE error END, at = " + later + "at ELSE at END"

const later = "CASE WHEN excluded.at > at THEN excluded."

// send writes the rows of a durable commit until every one is acknowledged.
func (d *DB) send(ctx context.Context, key store.CheckpointKey, p *plan) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	bad := badRows{db: d, key: key, at: p.To}
	upsert := func(what, sql string, n int, args ...any) {
		g.Go(func() error { return bad.upsert(gctx, what, sql, n, args) })
	}
	sendCounters(key, p, upsert)
	sendLatest(key, p, upsert)
	for from := 0; from < len(p.Dead); from += sendRows {
		list := p.Dead[from:min(from+sendRows, len(p.Dead))]
		seqs, ids, errs, ats := make([]int64, len(list)), make([]*string, len(list)), make([]string, len(list)), make([]int64, len(list))
		for i, x := range list {
			seqs[i], errs[i], ats[i] = x.Seq, x.Error, x.At
			if !x.Gone {
				ids[i] = &x.ID
			}
		}
		n := len(list)
		upsert(deadLetters, upsertDead, n, repeat(key.Plugin, n), repeat(int32(key.Generation), n), repeat(lettersOf(key.Stream), n), seqs, ids, errs, ats)
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := d.sendFixes(ctx, key, p.Fixes); err != nil {
		return err
	}
	return d.raise(ctx, p.metrics())
}

func sendCounters(key store.CheckpointKey, p *plan, upsert func(string, string, int, ...any)) {
	var metrics, keys []string
	var grans, buckets, ns []int64
	var dims [keyColumns][]*string
	flush := func() {
		n := len(ns)
		if n == 0 {
			return
		}
		upsert("counters", upsertCounters, n, metrics, repeat(int32(key.Generation), n), grans, buckets, keys, repeat(key.Stream, n),
			dims[0], dims[1], dims[2], ns, repeat(p.To, n))
		metrics, keys, grans, buckets, ns, dims = nil, nil, nil, nil, nil, [keyColumns][]*string{}
	}
	for _, c := range p.Counters {
		for i := range c.N {
			metrics, keys = append(metrics, c.Metric), append(keys, c.Keys[i])
			grans, buckets, ns = append(grans, c.Gran), append(buckets, c.Buckets[i]), append(ns, c.N[i])
			values := store.SplitKey(c.Keys[i], c.Dimensions)
			for k := range dims {
				var v *string
				if k < len(values) {
					v = &values[k]
				}
				dims[k] = append(dims[k], v)
			}
			if len(ns) == sendRows {
				flush()
			}
		}
	}
	flush()
}

func sendLatest(key store.CheckpointKey, p *plan, upsert func(string, string, int, ...any)) {
	for from := 0; from < len(p.Latest); {
		var metrics, keys, ids, docs []string
		var times []int64
		for size := 0; from < len(p.Latest) && len(times) < sendRows && size < sendBytes; from++ {
			x := p.Latest[from]
			metrics, keys, ids = append(metrics, x.Metric), append(keys, x.Key), append(ids, x.ID)
			docs, times = append(docs, x.Value), append(times, x.Time)
			size += len(x.Value)
		}
		n := len(times)
		upsert("latest values", upsertLatest, n, metrics, repeat(int32(key.Generation), n), keys, times, ids, docs)
	}
}

func repeat[T any](x T, n int) []T {
	out := make([]T, n)
	for i := range out {
		out[i] = x
	}
	return out
}

// upsert repeats a statement until it is acknowledged for all of its rows.
func (d *DB) upsert(ctx context.Context, what, sql string, rows int, args ...any) error {
	return d.retry(ctx, "write "+what, func(ctx context.Context) error {
		tag, err := d.pool.Exec(ctx, sql, args...)
		if err != nil {
			return err
		}
		if n := tagCount(tag); n != rows {
			return errors.Join(fmt.Errorf("%w: %q for %d rows", errShort, tag.String(), rows), d.blocked(ctx))
		}
		return nil
	})
}

// blocked says whether the server has made one of our tables read-only: to a statement of many rows it answers with
// fewer rows then, without an error.
func (d *DB) blocked(ctx context.Context) error {
	n := 0
	err := d.queryOnce(ctx, func(r pgx.Rows) error { return r.Scan(&n) }, "SELECT count(*) FROM information_schema.tables WHERE "+
		"table_schema = CURRENT_SCHEMA AND (settings['blocks']['read_only_allow_delete'] OR settings['blocks']['read_only'])")
	if err == nil && n > 0 {
		err = errReadOnly
	}
	return err
}
