package sqlite

import (
	"sync"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/store"
)

const (
	// manyLookups is after how many keys looked up one by one a question has the whole dictionary taken apart: what
	// looks at so many will be asked again.
	manyLookups = 1000
	// mostTaken bounds the numbers (of 4 bytes) that dictionaries taken apart hold together.
	mostTaken = 8 << 20
)

// takenKeys are dictionaries taken apart into columns, for questions that look at many series. A series' key never
// changes, and a table's name is never used again: what was read once stays right.
type takenKeys struct {
	mu     sync.Mutex
	tables map[string]*keyColumns
	tick   int
}

// keyColumns holds a number for the value of each dimension, by series.
type keyColumns struct {
	mu     sync.RWMutex
	ids    [][]uint32 // by dimension and series
	values []string   // by that number
	index  map[string]uint32
	used   int
}

// columnsOf gives a dictionary's columns up to now; with load it reads them, else it gives nil where nobody has. It
// is nil also for dictionaries that are too large.
func (k *takenKeys) columnsOf(c *conn, t table, load bool) (*keyColumns, error) {
	k.mu.Lock()
	x := k.tables[t.series]
	k.tick++
	if x != nil {
		x.used = k.tick
	}
	k.mu.Unlock()
	if x == nil && !load {
		return nil, nil
	}
	top, err := c.int("SELECT max(id) FROM " + t.series)
	if err != nil {
		return nil, err
	}
	size := (int(top) + 1) * t.dims
	if size > mostTaken/2 {
		return nil, nil
	}
	if x == nil {
		x = &keyColumns{ids: make([][]uint32, t.dims), index: map[string]uint32{}}
	}
	if err := x.extend(c, t, int(top)); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tables == nil {
		k.tables = map[string]*keyColumns{}
	}
	x.used = k.tick
	k.tables[t.series] = x
	k.makeRoom(t.series)
	return x, nil
}

// makeRoom forgets those that were not used for longest, but one.
func (k *takenKeys) makeRoom(but string) {
	for {
		total, oldest := 0, ""
		for name, x := range k.tables {
			x.mu.RLock()
			total += len(x.ids) * len(x.ids[0])
			x.mu.RUnlock()
			if name != but && (oldest == "" || x.used < k.tables[oldest].used) {
				oldest = name
			}
		}
		if total <= mostTaken || oldest == "" {
			return
		}
		delete(k.tables, oldest)
	}
}

// extend reads the series up to top that are not there yet.
func (x *keyColumns) extend(c *conn, t table, top int) error {
	x.mu.RLock()
	have := len(x.ids[0])
	x.mu.RUnlock()
	if have > top {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return c.each("SELECT id, key FROM "+t.series+" WHERE id>=? ORDER BY id", func(r *sqlite.Stmt) error {
		id := int(r.ColumnInt64(0))
		if id < len(x.ids[0]) {
			return nil
		}
		for d, value := range store.SplitKey(r.ColumnText(1), t.dims) {
			n, known := x.index[value]
			if !known {
				x.values = append(x.values, value)
				n = uint32(len(x.values)) // 0 is for a number without a key
				x.index[value] = n
			}
			for len(x.ids[d]) < id {
				x.ids[d] = append(x.ids[d], 0)
			}
			x.ids[d] = append(x.ids[d], n)
		}
		return nil
	}, have)
}

// key gives the values of a series; ok is false for one that is not there.
func (x *keyColumns) key(series uint32, into []string) (ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for d := range into {
		if int(series) >= len(x.ids[d]) || x.ids[d][series] == 0 {
			return false
		}
		into[d] = x.values[x.ids[d][series]-1]
	}
	return true
}
