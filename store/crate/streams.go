package crate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/store"
)

type streamRow struct {
	archivedTo, owned, epoch int64
	retired                  bool
}

func (r streamRow) ownerEpoch() int64 { return r.epoch }

// ownStream is a stream that this process has attached.
type ownStream struct {
	mu   sync.Mutex // one Archive at a time
	cur  held[streamRow]
	next *streamRow // the write of which the outcome is unknown
}

func (d *DB) streamGuard(stream string) guard[streamRow] {
	scan := func(r pgx.Row) (h held[streamRow], err error) {
		err = r.Scan(&h.row.archivedTo, &h.row.owned, &h.row.epoch, &h.row.retired, &h.at.seqNo, &h.at.term)
		return h, err
	}
	const columns = "archived_to, owned, epoch, retired, _seq_no, _primary_term"
	return guard[streamRow]{
		name: "stream " + stream,
		read: func(ctx context.Context) (held[streamRow], error) {
			return scan(d.pool.QueryRow(ctx, "SELECT "+columns+" FROM streams WHERE id = $1", stream))
		},
		create: func(ctx context.Context) error {
			_, err := d.pool.Exec(ctx, "INSERT INTO streams (id, archived_to, owned, epoch, retired) VALUES ($1, 0, 0, 0, FALSE) "+
				"ON CONFLICT (id) DO NOTHING", stream)
			return err
		},
		take: func(ctx context.Context, at version, epoch int64) (held[streamRow], error) {
			return scan(d.pool.QueryRow(ctx, "UPDATE streams SET epoch = $1 WHERE id = $2 AND _seq_no = $3 AND _primary_term = $4 "+
				"RETURNING "+columns, epoch, stream, at.seqNo, at.term))
		},
		set: func(ctx context.Context, at version, r streamRow) (v version, err error) {
			err = d.pool.QueryRow(ctx, "UPDATE streams SET archived_to = $1, owned = $2, epoch = $3, retired = $4 "+
				"WHERE id = $5 AND _seq_no = $6 AND _primary_term = $7 RETURNING _seq_no, _primary_term",
				r.archivedTo, r.owned, r.epoch, r.retired, stream, at.seqNo, at.term).Scan(&v.seqNo, &v.term)
			return v, err
		},
	}
}

// Attach takes a stream: from now on only this DB moves its archived_to.
func (d *DB) Attach(ctx context.Context, stream string) (uint64, error) {
	if err := checkName("stream", stream); err != nil {
		return 0, err
	}
	h, err := acquire(ctx, d, d.streamGuard(stream), func(r streamRow) error {
		if r.retired {
			return fmt.Errorf("%w: the stream is retired", store.ErrFenced)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	d.mu.Lock()
	d.streams[stream] = &ownStream{cur: h}
	d.mu.Unlock()
	return uint64(h.row.archivedTo), nil
}

func (d *DB) attached(stream string) (*ownStream, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.streams[stream]
	if s == nil {
		return nil, fmt.Errorf("%w: stream %q has not been attached", store.ErrUnknown, stream)
	}
	return s, nil
}

// reaching is the stream's row once owned events up to a position are archived.
func (s *ownStream) reaching(to, owned int64) streamRow {
	next := s.cur.row
	next.archivedTo = to
	next.owned += owned
	return next
}

// announce moves archived_to, once everything up to it has been acknowledged and refreshed.
func (s *ownStream) announce(ctx context.Context, d *DB, stream string, next streamRow) error {
	h, err := write(ctx, d, d.streamGuard(stream), s.cur, next)
	if err != nil {
		s.next = &next
		return err
	}
	s.cur, s.next = h, nil
	return nil
}

// Streams lists all streams by id.
func (d *DB) Streams(ctx context.Context) ([]store.Stream, error) {
	if err := d.refresh(ctx, "streams"); err != nil {
		return nil, err
	}
	var out []store.Stream
	err := d.query(ctx, "list streams", func() { out = nil }, func(r pgx.Rows) error {
		var s store.Stream
		var to, owned int64
		if err := r.Scan(&s.ID, &to, &owned, &s.Retired); err != nil {
			return err
		}
		s.ArchivedTo, s.Owned = uint64(to), uint64(owned)
		out = append(out, s)
		return nil
	}, "SELECT id, archived_to, owned, retired FROM streams ORDER BY id")
	return out, err
}

// archivedTo reads a stream's row by its key. A dirty read is harmless here: archived_to is written only after all of
// it is durable.
func (d *DB) archivedTo(ctx context.Context, stream string) (int64, error) {
	var h held[streamRow]
	err := d.retry(ctx, "read stream "+stream, func(ctx context.Context) (err error) {
		h, err = d.streamGuard(stream).read(ctx)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("%w: %w stream", errGivenUp, store.ErrUnknown)
		}
		return err
	})
	return h.row.archivedTo, err
}

// position turns a contract's position into a column's value.
func position(p uint64) (int64, error) {
	if p >= math.MaxInt64 {
		return 0, fmt.Errorf("position %d is too large", p)
	}
	return int64(p), nil
}
