package sqlite

import (
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/store"
)

// mostPicked bounds the series that one condition may choose before it no longer counts as a choice: reading whole
// buckets is cheaper then.
const mostPicked = 1 << 16

// candidates gives the series that meet the condition that fewest series meet; chosen is false where no condition
// narrows them down. The other conditions are left to group, which looks at each of them.
func (s *summer) candidates() (series []uint32, chosen bool, err error) {
	if ids, whole, err := s.exact(); whole || err != nil {
		return ids, true, err
	}
	for _, w := range s.q.Where {
		if w.Not || w.In == nil && w.Prefix == "" {
			continue
		}
		most := mostPicked
		if chosen {
			most = len(series)
		}
		ids, fits, err := s.pick(w, most)
		if err != nil {
			return nil, false, err
		}
		if fits {
			series, chosen = ids, true
		}
	}
	return series, chosen, nil
}

// exact finds the series by their whole keys where every dimension is given one value.
func (s *summer) exact() (ids []uint32, whole bool, err error) {
	if s.t.dims == 0 {
		return nil, false, nil
	}
	values, given := make([]string, s.t.dims), make([]bool, s.t.dims)
	for _, w := range s.q.Where {
		if !w.Not && len(w.In) == 1 {
			values[w.Dim], given[w.Dim] = w.In[0], true
		}
	}
	for _, ok := range given {
		if !ok {
			return nil, false, nil
		}
	}
	key := store.JoinKey(values)
	other := s.t.dims > 1 // OtherKey stands for itself in every dimension
	for _, v := range values {
		other = other && v == store.OtherKey
	}
	if other {
		key = store.OtherKey
	}
	err = s.c.each("SELECT id FROM "+s.t.series+" WHERE key=?", func(r *sqlite.Stmt) error {
		ids = append(ids, uint32(r.ColumnInt64(0)))
		return nil
	}, key)
	return ids, true, err
}

// pick finds the series that meet one condition, unless there are more than most.
func (s *summer) pick(w store.Match, most int) (ids []uint32, fits bool, err error) {
	from, args := s.t.series+" WHERE key", []any(nil)
	if w.Dim > 0 {
		from, args = s.t.part+" WHERE dim=? AND value", []any{w.Dim}
	}
	take := func(q string, more ...any) error {
		return s.c.each(q, func(r *sqlite.Stmt) error {
			if ids = append(ids, uint32(r.ColumnInt64(0))); len(ids) > most {
				return errStop
			}
			return nil
		}, append(args[:len(args):len(args)], more...)...)
	}
	// Text is compared byte by byte, and no byte of UTF-8 is 0xff.
	name, leads := "value", w.Dim == 0 && s.t.dims > 1
	if w.Dim == 0 {
		name = "key"
	}
	if w.In == nil {
		prefix := w.Prefix
		if leads {
			prefix = strings.TrimSuffix(leading(prefix), "\x00")
		}
		err = take("SELECT id FROM "+from+">=? AND "+name+"<?", prefix, prefix+"\xff")
		return ids, len(ids) <= most, err
	}
	for i, v := range w.In {
		if i > 0 && slices.Contains(w.In[:i], v) {
			continue
		}
		if leads {
			err = take("SELECT id FROM "+from+">=? AND key<?", leading(v), leading(v)+"\xff")
		}
		if err == nil && (!leads || v == store.OtherKey) { // which stands for itself in every dimension
			err = take("SELECT id FROM "+from+"=?", v)
		}
		if err != nil || len(ids) > most {
			break
		}
	}
	return ids, len(ids) <= most, err
}

// leading is what the keys of several dimensions begin with whose first value this is.
func leading(value string) string { return store.JoinKey([]string{value, ""}) }
