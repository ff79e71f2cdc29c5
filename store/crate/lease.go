package crate

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/store"
)

// leaseTable is small and written all the time: it is refreshed by whoever lists it.
func leaseTable(one string) string {
	return "CREATE TABLE IF NOT EXISTS leases (name TEXT PRIMARY KEY, owner TEXT, beat BIGINT, info " + carried + ") " + one + ")"
}

// ListLeases gives the leases whose names begin with a prefix.
func (d *DB) ListLeases(ctx context.Context, prefix string) (out []store.Lease, err error) {
	if err := d.refresh(ctx, "leases"); err != nil {
		return nil, err
	}
	err = d.query(ctx, "list leases", func() { out = nil }, func(r pgx.Rows) error {
		var l store.Lease
		var beat int64
		err := r.Scan(&l.Name, &l.Owner, &beat, &l.Info)
		l.Beat = uint64(beat)
		out = append(out, l)
		return err
	}, "SELECT name, owner, beat, info FROM leases WHERE LEFT(name, $1) = $2 ORDER BY name", len([]rune(prefix)), prefix)
	return out, err
}

type leaseRow struct {
	owner, info string
	beat        int64
}

func (d *DB) readLease(ctx context.Context, name string) (h held[leaseRow], err error) {
	err = d.pool.QueryRow(ctx, "SELECT owner, beat, info, _seq_no, _primary_term FROM leases WHERE name = $1", name).
		Scan(&h.row.owner, &h.row.beat, &h.row.info, &h.at.seqNo, &h.at.term)
	return h, err
}

// SwapLease writes a lease by compare-and-set. Where an attempt had no answer, the row says whether it took effect: the
// next beat with our own words is ours.
func (d *DB) SwapLease(ctx context.Context, l store.Lease) (store.Lease, error) {
	if err := checkName("lease", l.Name); err != nil {
		return l, err
	}
	if len(l.Info) > store.MaxLeaseInfo {
		return l, fmt.Errorf("lease %s: %d bytes of information, at most %d are possible", l.Name, len(l.Info), store.MaxLeaseInfo)
	}
	next := leaseRow{l.Owner, l.Info, int64(l.Beat) + 1}
	tried := false
	err := d.retry(ctx, "write lease "+l.Name, func(ctx context.Context) error {
		now, err := d.readLease(ctx, l.Name)
		if errors.Is(err, pgx.ErrNoRows) && l.Beat == 0 {
			tried = true
			tag, err := d.pool.Exec(ctx, "INSERT INTO leases (name, owner, beat, info) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING",
				l.Name, next.owner, next.beat, next.info)
			if err == nil && tagCount(tag) != 1 {
				err = errShort // the row that is there now decides
			}
			return err
		}
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return fmt.Errorf("%w: %w: it is gone", errGivenUp, store.ErrFenced)
		case err != nil:
			return err
		case tried && now.row == next:
			return nil
		case now.row.beat != int64(l.Beat):
			return fmt.Errorf("%w: %w: its beat is %d, not %d", errGivenUp, store.ErrFenced, now.row.beat, l.Beat)
		}
		tried = true
		tag, err := d.pool.Exec(ctx, "UPDATE leases SET owner = $1, beat = $2, info = $3 WHERE name = $4 AND _seq_no = $5 AND _primary_term = $6",
			next.owner, next.beat, next.info, l.Name, now.at.seqNo, now.at.term)
		if err == nil && tagCount(tag) != 1 {
			err = errShort
		}
		return err
	})
	if err == nil {
		l.Beat++
	}
	return l, err
}

// DropLease removes a lease by compare-and-set.
func (d *DB) DropLease(ctx context.Context, l store.Lease) error {
	return d.retry(ctx, "remove lease "+l.Name, func(ctx context.Context) error {
		now, err := d.readLease(ctx, l.Name)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil
		case err != nil:
			return err
		case now.row.beat != int64(l.Beat):
			return fmt.Errorf("%w: %w: its beat is %d, not %d", errGivenUp, store.ErrFenced, now.row.beat, l.Beat)
		}
		tag, err := d.pool.Exec(ctx, "DELETE FROM leases WHERE name = $1 AND _seq_no = $2 AND _primary_term = $3", l.Name, now.at.seqNo, now.at.term)
		if err == nil && tagCount(tag) != 1 {
			err = errShort
		}
		return err
	})
}

// GenerationsOf gives a plugin's generations that have a fingerprint.
func (d *DB) GenerationsOf(ctx context.Context, plugin, fingerprint string) (g store.Generations, err error) {
	doc, err := d.pluginOf(ctx, plugin)
	if err != nil {
		return g, err
	}
	if doc.Definitions[doc.Serving].Fingerprint == fingerprint {
		g.Serving = doc.Serving
	}
	if p, ok := doc.Definitions[doc.Building]; ok && p.Fingerprint == fingerprint {
		g.Building = doc.Building
	}
	return g, nil
}
