package sqlite

import (
	"context"
	"fmt"
	"sync"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/store"
)

const (
	otherSeries  = 0       // the number of store.OtherKey in every dictionary
	maxDictCache = 1 << 17 // keys of a dictionary that are kept in memory
	// vainLookups is after how many keys looked up that were not there a dictionary notes which may be: to look up every
	// new key costs more than the rest of counting it.
	vainLookups = 256
)

// dictionary numbers the series of one metric of one generation. All checkpoints of the generation share it. New
// numbers live in memory until a commit that succeeds has written them.
type dictionary struct {
	mu       sync.Mutex
	table    string
	part     string // (dim, value, id) of every series, for metrics of several dimensions; else "". The first one leads the keys.
	dims     int
	limit    uint32
	room     int               // maxDictCache
	ids      map[string]uint32 // some of the written keys and all of pending
	older    map[string]uint32 // those that were used before ids was begun anew
	complete bool              // ids holds every key there is
	vain     int               // lookups that found nothing
	known    *keyFilter        // of all keys there are; nil where nobody needs it
	written  uint32            // numbers up to here are in the table
	pending  []string          // the keys of written+1, ...
	stale    bool              // another process gave out the numbers of pending
}

func newDictionary(no int64, dims int, limit uint32) *dictionary {
	x := &dictionary{table: fmt.Sprintf("series_%d", no), dims: dims, limit: limit, room: maxDictCache}
	if dims > 1 {
		x.part = x.table + "_part"
	}
	return x
}

// number gives a key's number, a new one to a new key.
func (x *dictionary) number(d *DB, key string) (uint32, error) {
	if len(key) > store.MaxKeyBytes {
		return 0, fmt.Errorf("key of %d bytes: at most %d", len(key), store.MaxKeyBytes)
	}
	if key == store.OtherKey {
		return otherSeries, nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if n, ok := x.ids[key]; ok {
		return n, nil
	}
	if n, ok := x.older[key]; ok {
		x.remember(key, n)
		return n, nil
	}
	if !x.complete && (x.known == nil || x.known.has(key)) {
		n, err := x.lookUp(d, key)
		if err != nil {
			return 0, err
		}
		if n != 0 {
			x.remember(key, n)
			return n, nil
		}
	}
	n := x.written + uint32(len(x.pending)) + 1
	if n > x.limit {
		return otherSeries, nil
	}
	x.pending = append(x.pending, key)
	if x.known != nil {
		x.known.add(key)
	}
	x.remember(key, n)
	return n, nil
}

// lookUp finds a written key's number, 0 where there is none. After many that found nothing it reads all keys once.
func (x *dictionary) lookUp(d *DB, key string) (n uint32, err error) {
	err = d.read(context.Background(), "look up a series", func(c *conn) error {
		v, err := c.int("SELECT id FROM "+x.table+" WHERE key=?", key)
		n = uint32(v)
		if err != nil || n != 0 || x.known != nil {
			return err
		}
		if x.vain++; x.vain < vainLookups {
			return nil
		}
		known := newKeyFilter()
		for _, k := range x.pending {
			known.add(k)
		}
		if err := c.each("SELECT key FROM "+x.table, func(s *sqlite.Stmt) error {
			known.add(s.ColumnText(0))
			return nil
		}); err != nil {
			return err
		}
		x.known = known
		return nil
	})
	return n, err
}

// remember keeps a key in memory. When there are too many, those used since then stay, and the pending ones, which are
// nowhere else.
func (x *dictionary) remember(key string, n uint32) {
	most := x.room
	if !x.complete {
		most /= 2 // as many are older
	}
	if len(x.ids) >= most+len(x.pending) {
		x.older, x.ids, x.complete = x.ids, map[string]uint32{}, false
		for i, k := range x.pending {
			x.ids[k] = x.written + 1 + uint32(i)
		}
	}
	x.ids[key] = n
}

// write puts the pending keys into the table and gives how many; settle is called with it after the commit.
func (x *dictionary) write(c *conn) (int, error) {
	x.mu.Lock()
	pending, next := x.pending, x.written+1
	x.mu.Unlock()
	for i, key := range pending {
		if err := c.exec("INSERT INTO "+x.table+" VALUES(?,?)", next+uint32(i), key); err != nil {
			return 0, err
		}
		if err := x.writeParts(c, next+uint32(i), key); err != nil {
			return 0, err
		}
	}
	return len(pending), nil
}

// writeParts makes a series findable by each of its dimensions but the first, which its key begins with.
func (x *dictionary) writeParts(c *conn, id uint32, key string) error {
	if x.part == "" {
		return nil
	}
	for dim, value := range store.SplitKey(key, x.dims) {
		if dim == 0 {
			continue
		}
		if err := c.exec("INSERT INTO "+x.part+" VALUES(?,?,?) ON CONFLICT DO NOTHING", dim, value, id); err != nil {
			return err
		}
	}
	return nil
}

// settle takes n pending keys as written.
func (x *dictionary) settle(n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.written += uint32(n)
	x.pending = append([]string(nil), x.pending[n:]...)
}

// knows says whether a number was given out.
func (x *dictionary) knows(n uint32) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return n <= x.written+uint32(len(x.pending))
}

func (x *dictionary) setLimit(n uint32) {
	x.mu.Lock()
	x.limit = n
	x.mu.Unlock()
}

// load reads the table: all of it while that is little.
func (x *dictionary) load(c *conn) error {
	top, err := c.int("SELECT max(id) FROM " + x.table)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if uint32(top) == x.written && x.ids != nil {
		return nil
	}
	if len(x.pending) > 0 {
		x.stale = true // its numbers mean other keys by now
		return nil
	}
	x.ids, x.older, x.known, x.written, x.complete = map[string]uint32{}, nil, nil, uint32(top), false
	if int(top) > x.room {
		return nil
	}
	x.complete = true
	return c.each("SELECT id, key FROM "+x.table+" WHERE id>0", func(s *sqlite.Stmt) error {
		x.ids[s.ColumnText(1)] = uint32(s.ColumnInt64(0))
		return nil
	})
}
