package crate

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

const (
	findAhead = 256     // events looked at together where bodies are searched
	findBytes = 8 << 20 // of bodies read together
)

// found is an event with what says where it stands.
type found struct {
	event
	part   int32
	stream string
}

// cursor gives the event's place. Its key would be taken for an ID that needs a key of its own.
func (f *found) cursor() (*store.EventCursor, error) {
	e, _, err := f.restore(false)
	return &store.EventCursor{Time: f.ts, ID: string(e.ID)}, err
}

// finding is a question about archived events.
type finding struct {
	db      *DB
	filter  store.EventFilter
	from    int64 // of the filter and the horizon, to of the filter: µs since 1970
	to      int64
	where   []string
	args    []any
	ends    map[string]uint64 // archived_to by stream: what lies above is not archived yet
	nothing bool
	one     bool // it is about one event, wherever it is
}

func (d *DB) finding(ctx context.Context, f store.EventFilter) (*finding, error) {
	streams, err := d.Streams(ctx)
	if err != nil {
		return nil, err
	}
	q := &finding{db: d, filter: f, ends: map[string]uint64{}}
	for _, s := range streams {
		q.ends[s.ID] = s.ArchivedTo
	}
	q.from, q.to = bounded(max(f.From, d.behind("", 0))), bounded(f.To)
	if q.nothing = q.from >= q.to; q.nothing {
		return q, nil
	}
	q.add("ts >= %s AND ts < %s AND (part = 0 OR part >= %s AND part <= %s)", q.from, q.to, int64(month(q.from, false)), int64(month(q.to-1, false)))
	q.names(f.Users, "%s = ANY(users)")
	q.names(f.Packages, "%s = ANY(packages)")
	q.names(f.Categories, "category = %s")
	q.names(f.Topics, "topic = %s")
	q.names(f.Agents, "agent = %s")
	q.any(f.TopicPrefixes, "topic LIKE %s", false, func(s string) string { return likeEscape.Replace(text(s)) + "%" })
	return q, nil
}

// add adds a condition; each %s is an argument.
func (q *finding) add(format string, args ...any) {
	numbers := make([]any, len(args))
	for i, x := range args {
		q.args = append(q.args, x)
		numbers[i] = parameter(len(q.args))
	}
	q.where = append(q.where, fmt.Sprintf(format, numbers...))
}

// names adds a condition on names. What is empty is not a name: no event has it.
func (q *finding) names(n store.Names, format string) {
	given := func(list []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "" })
	}
	if in := given(n.In); len(in) > 0 {
		q.any(in, format, false, text)
	} else if len(n.In) > 0 {
		q.nothing = true
	}
	q.any(given(n.NotIn), format, true, text)
}

// any adds that one of the values fits, or none of them.
func (q *finding) any(list []string, format string, not bool, as func(string) string) {
	if len(list) == 0 {
		return
	}
	parts := make([]string, len(list))
	args := make([]any, len(list))
	for i, s := range list {
		parts[i], args[i] = format, as(s)
	}
	whole := "(" + strings.Join(parts, " OR ") + ")"
	if not {
		whole = "NOT " + whole
	}
	q.add(whole, args...)
}

func (q *finding) condition() string { return strings.Join(q.where, " AND ") }

// after gives the next events behind a place, at most so many.
func (q *finding) after(ctx context.Context, at *store.EventCursor, desc bool, limit int) ([]found, error) {
	for _, bound := range q.nearby(ctx, at, desc, limit) {
		if list, err := q.search(ctx, at, &bound, desc, limit); err != nil || len(list) == limit {
			return list, err
		}
	}
	return q.search(ctx, at, nil, desc, limit)
}

// search gives the next events behind a place that are no further than a bound, where there is one.
func (q *finding) search(ctx context.Context, at *store.EventCursor, bound *int64, desc bool, limit int) (list []found, err error) {
	where, args, order, sign := q.condition(), slices.Clone(q.args), "", ">"
	if desc {
		order, sign = " DESC", "<"
	}
	if bound != nil {
		within := "<="
		if desc {
			within = ">="
		}
		args = append(args, *bound, int64(month(*bound, false)))
		where += fmt.Sprintf(" AND ts %[1]s $%[2]d AND (part = 0 OR part %[1]s $%[3]d)", within, len(args)-1, len(args))
	}
	if at != nil {
		args = append(args, bounded(at.Time), key(at.ID))
		where += fmt.Sprintf(" AND ts %[1]s= $%[2]d AND (ts %[1]s $%[2]d OR id %[1]s $%[3]d)", sign, len(args)-1, len(args))
	}
	sql := fmt.Sprintf("SELECT %s, part, stream FROM events WHERE %s ORDER BY ts%s, id%s LIMIT %d", eventColumns, where, order, order, limit)
	err = q.db.whole(ctx, "find events", func(ctx context.Context) error {
		list = list[:0]
		return q.db.queryOnce(ctx, func(r pgx.Rows) error {
			var f found
			e := &f.event
			err := r.Scan(&e.id, &e.ts, &e.seq, &e.topic, &e.category, &e.users, &e.packages, &e.agent, &e.source, &e.signed, &e.untimed,
				&e.received, &e.backfill, &e.size, &e.exact, &f.part, &f.stream)
			list = append(list, f)
			return err
		}, sql, args...)
	})
	return list, err
}

// fill reads the bodies of events by their keys.
func (q *finding) fill(ctx context.Context, list []found) error {
	for from := 0; from < len(list); {
		end, size := from, 0
		for end < len(list) && end-from < lookUp && (size < findBytes || end == from) {
			size += int(list[end].size)
			end++
		}
		byPart := map[int32][]*found{}
		for i := from; i < end; i++ {
			byPart[list[i].part] = append(byPart[list[i].part], &list[i])
		}
		for part, some := range byPart {
			ids, at := make([]string, len(some)), map[string]*found{}
			for i, f := range some {
				ids[i], at[f.id] = "'"+strings.ReplaceAll(f.id, "'", "''")+"'", f
			}
			n := 0
			err := q.db.query(ctx, "read bodies", func() { n = 0 }, func(r pgx.Rows) error {
				var id, body string
				if err := r.Scan(&id, &body); err != nil {
					return err
				}
				if f := at[id]; f != nil {
					f.body = body
					n++
				}
				return nil
			}, fmt.Sprintf("SELECT id, body FROM events WHERE part = %d AND id IN (%s)", part, strings.Join(ids, ",")), pgx.QueryExecModeExec)
			if err != nil {
				return err
			}
			if n != len(at) {
				return fmt.Errorf("%w: %d bodies of %d events: some have expired meanwhile", store.ErrUnavailable, n, len(at))
			}
		}
		from = end
	}
	return nil
}

// fits says whether a body has what the filter asks for.
func (q *finding) fits(body []byte) bool {
	f := q.filter
	has := func(s string) bool { return bytes.Contains(body, []byte(s)) }
	return (len(f.Contains) == 0 || slices.ContainsFunc(f.Contains, has)) && !slices.ContainsFunc(f.NotContains, has)
}

func (q *finding) searchesBodies() bool { return len(q.filter.Contains)+len(q.filter.NotContains) > 0 }

// each calls f for the events in order, with their bodies where they are asked for or searched, until it says that it
// has enough or so many have been looked at. It gives the last place looked at, nil where there is no more.
func (q *finding) each(ctx context.Context, at *store.EventCursor, desc, bodies bool, ahead, most int, f func(*found, store.Event) bool) (*store.EventCursor, error) {
	for looked := 0; !q.nothing; {
		n := ahead
		if most > 0 {
			if n = min(n, most-looked); n <= 0 {
				return at, nil
			}
		}
		list, err := q.after(ctx, at, desc, n)
		if err != nil {
			return nil, err
		}
		if bodies || q.searchesBodies() {
			if err := q.fill(ctx, list); err != nil {
				return nil, err
			}
		}
		for i := range list {
			x := &list[i]
			if at, err = x.cursor(); err != nil {
				return nil, err
			}
			if uint64(x.seq) > q.ends[x.stream] {
				continue
			}
			e, err := x.asEvent(bodies || q.searchesBodies())
			if err != nil {
				return nil, err
			}
			if q.searchesBodies() && !q.fits(e.Body) {
				continue
			}
			if !bodies {
				e.Body = nil
			}
			if f(x, e) {
				return at, nil
			}
		}
		if looked += len(list); len(list) < n {
			return nil, nil
		}
	}
	return nil, nil
}

func (f *found) asEvent(body bool) (store.Event, error) {
	e, category, err := f.restore(body)
	if err != nil {
		return store.Event{}, err
	}
	return store.Event{Stream: f.stream, Seq: uint64(f.seq), ID: string(e.ID), Topic: string(e.Topic), Category: category, Time: e.Time,
		Received: f.received, Source: e.Source, Users: strs(e.Users), Packages: strs(e.Packages), Agent: string(e.Agent),
		Signed: block.Signature(f.signed), Body: e.Body}, nil
}

func strs(list [][]byte) []string {
	var out []string
	for _, b := range list {
		out = append(out, string(b))
	}
	return out
}

// Find gives a page.
func (d *DB) Find(ctx context.Context, r store.FindRequest) (page store.Page, err error) {
	if r.Limit < 1 {
		return page, fmt.Errorf("a page of %d events: want at least 1", r.Limit)
	}
	q, err := d.finding(ctx, r.EventFilter)
	if err != nil {
		return page, err
	}
	ahead := min(r.Limit, math.MaxInt32-1) + 1
	if q.searchesBodies() {
		ahead = findAhead
	}
	var last *store.EventCursor
	full, size := false, 0
	end, err := q.each(ctx, r.After, r.Desc, r.Bodies, ahead, r.MaxScan, func(f *found, e store.Event) bool {
		size += len(e.Body)
		if full = len(page.Events) == r.Limit || r.MaxBytes > 0 && size > r.MaxBytes && len(page.Events) > 0; !full {
			page.Events, last = append(page.Events, e), &store.EventCursor{Time: e.Time, ID: e.ID}
		}
		return full
	})
	if page.Next = end; full {
		page.Next = last
	}
	return page, err
}

// Event gives one event with its body. Whoever knows only the ID has to look into every month.
func (d *DB) Event(ctx context.Context, id string) (e store.Event, err error) {
	q, err := d.finding(ctx, store.EventFilter{From: math.MinInt64, To: math.MaxInt64})
	if err != nil {
		return e, err
	}
	q.add("id = %s", key(id))
	q.one = true
	got := false
	_, err = q.each(ctx, nil, false, true, 1, 0, func(_ *found, x store.Event) bool {
		if x.ID == id {
			e, got = x, true
		}
		return got
	})
	if err == nil && !got {
		err = fmt.Errorf("event %q: %w", id, store.ErrUnknown)
	}
	return e, err
}

// CountEvents counts the events that a filter chooses.
func (d *DB) CountEvents(ctx context.Context, f store.EventFilter, maxScan int) (n int64, err error) {
	q, err := d.finding(ctx, f)
	if err != nil || q.nothing {
		return 0, err
	}
	all, err := q.count(ctx)
	if err != nil || !q.searchesBodies() {
		return all, err
	}
	if maxScan > 0 && all > int64(maxScan) {
		return 0, fmt.Errorf("%w: %d bodies to search, more than %d", store.ErrTooCostly, all, maxScan)
	}
	_, err = q.each(ctx, nil, false, false, findAhead, 0, func(*found, store.Event) bool { n++; return false })
	return n, err
}

// count counts what the columns can answer.
func (q *finding) count(ctx context.Context) (n int64, err error) {
	above, args := []string{"FALSE"}, slices.Clone(q.args)
	for s, end := range q.ends { // inserted, but not archived yet
		args = append(args, s, int64(min(end, math.MaxInt64)))
		above = append(above, fmt.Sprintf("stream = $%d AND seq > $%d", len(args)-1, len(args)))
	}
	err = q.db.whole(ctx, "count events", func(ctx context.Context) error {
		return q.db.queryOnce(ctx, func(r pgx.Rows) error { return r.Scan(&n) },
			"SELECT count(*) FROM events WHERE "+q.condition()+" AND NOT ("+strings.Join(above, " OR ")+")", args...)
	})
	return n, err
}
