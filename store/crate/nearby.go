package crate

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/store"
)

// A page is of the events nearest to one end of its span. CrateDB sorts whatever the span and the names leave, which may
// be millions: so it is asked for what lies near that end first, and for all only where that is not enough. How far
// "near" is follows from how many events the months have; a wrong guess costs a question, never an event.
const (
	// nearEvents and farEvents are how many events for each one of a page, whatever their names, are looked at first.
	nearEvents, farEvents = 64, 4096
	// monthsFor is how long it is believed how many events the months have.
	monthsFor = time.Minute
	// monthsWithin is how long a page waits for that.
	monthsWithin = time.Second
)

// months is how many events there are in each month, as last seen.
type months struct {
	looking sync.Mutex
	last    atomic.Pointer[monthsSeen]
}

type monthsSeen struct {
	events map[int32]int64
	at     time.Time
}

// monthSizes gives how many events the partitions have, as far as it is known: nobody waits for whoever looks.
func (d *DB) monthSizes(ctx context.Context) map[int32]int64 {
	last := d.months.last.Load()
	if last == nil {
		last = &monthsSeen{}
	}
	if time.Since(last.at) < monthsFor || !d.months.looking.TryLock() {
		return last.events
	}
	defer d.months.looking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, monthsWithin)
	defer cancel()
	events, err := d.measureMonths(ctx)
	if err != nil { // the question itself will say so
		events = last.events
	}
	d.months.last.Store(&monthsSeen{events, time.Now()})
	return events
}

func (d *DB) measureMonths(ctx context.Context) (map[int32]int64, error) {
	parts := map[string]int32{}
	err := d.queryOnce(ctx, func(r pgx.Rows) error {
		var ident string
		var part int32
		err := r.Scan(&ident, &part)
		parts[ident] = part
		return err
	}, "SELECT partition_ident, values['part']::int FROM information_schema.table_partitions WHERE table_schema = CURRENT_SCHEMA AND table_name = 'events'")
	if err != nil {
		return nil, err
	}
	events := map[int32]int64{}
	err = d.queryOnce(ctx, func(r pgx.Rows) error {
		var ident string
		var n int64
		err := r.Scan(&ident, &n)
		if part, ok := parts[ident]; ok {
			events[part] = n
		}
		return err
	}, "SELECT partition_ident, sum(num_docs)::bigint FROM sys.shards WHERE schema_name = CURRENT_SCHEMA AND table_name = 'events' AND \"primary\" GROUP BY 1")
	return events, err
}

// nearby gives the times, in µs since 1970, up to which a page is looked for at first, nearest first: none where all may
// be looked at as well.
func (q *finding) nearby(ctx context.Context, at *store.EventCursor, desc bool, limit int) (bounds []int64) {
	if q.one {
		return nil
	}
	from, to := q.from, q.to
	switch {
	case at == nil:
	case desc:
		to = min(to, bounded(at.Time)+1)
	default:
		from = max(from, bounded(at.Time))
	}
	first, last, n := int64(0), int64(0), int64(0) // of the month nearest to where the page begins
	for part, size := range q.db.monthSizes(ctx) {
		begin, end, ok := monthSpan(part)
		if ok && size > 0 && begin < to && end > from && (n == 0 || desc == (begin > first)) {
			first, last, n = begin, end, size
		}
	}
	if n == 0 {
		return nil
	}
	if now := time.Now().UnixMicro(); now > first && now < last { // the rest of this month is still to come
		last = now
	}
	each := float64(last-first) / float64(n)
	steps := []int{nearEvents, farEvents}
	if f := q.filter; len(f.Users.In)+len(f.Packages.In)+len(f.Agents.In)+len(f.Topics.In) > 0 {
		steps = steps[1:] // few events have such a name
	}
	for _, events := range steps {
		width := int64(each * float64(events) * float64(limit))
		bound := max(from, first) + width
		if desc {
			bound = min(to, last) - width
		}
		if bound <= from || bound >= to {
			break
		}
		bounds = append(bounds, bound)
	}
	return bounds
}

// monthSpan gives when the month of a partition begins and ends, in µs since 1970; ok is false for those that hold what
// is of no known month.
func monthSpan(part int32) (begin, end int64, ok bool) {
	year, month := int(part/100), time.Month(part%100)
	if year < 2000 || year >= 2100 || month < 1 || month > 12 {
		return 0, 0, false
	}
	t := time.Date(year, month, 1, 0, 0, 0, 0, time.UTC)
	return t.UnixMicro(), t.AddDate(0, 1, 0).UnixMicro(), true
}
