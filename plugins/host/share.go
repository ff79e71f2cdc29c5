package host

import (
	"sync"

	"github.com/statscache/statscache/internal/block"
)

// maxShared bounds what blocks and frames are kept for sharing, in bytes.
const maxShared = 32 << 20

// sharer encodes a whole block once for all plugins that want the same of it. Plugins that lag behind read blocks of
// their own, so that only the last few are worth keeping.
type sharer struct {
	ids *batchID

	mu      sync.Mutex
	entries map[shareKey]*shared
	order   []shareKey // oldest first
	bytes   int
}

type shareKey struct {
	block   *block.Block
	columns columns
}

type shared struct {
	once  sync.Once
	id    uint64
	frame frame
	err   error
	cost  int
}

func newSharer(ids *batchID) *sharer { return &sharer{ids: ids, entries: map[shareKey]*shared{}} }

// encode gives a batch its number and its frame.
func (s *sharer) encode(b *batch, c columns) error {
	if b.len() == 0 {
		return nil
	}
	if !b.whole {
		b.id = s.ids.next()
		f, err := b.encode(c)
		b.frame = f
		return err
	}
	e := s.entry(shareKey{b.block, c})
	e.once.Do(func() {
		b.id = e.id
		e.frame, e.err = b.encode(c)
	})
	b.id, b.frame = e.id, e.frame
	return e.err
}

func (s *sharer) entry(k shareKey) *shared {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.entries[k]; ok {
		return e
	}
	e := &shared{id: s.ids.next(), cost: 2*k.block.Bytes() + 1}
	if k.columns.bodies {
		e.cost += k.block.BodyBytes
	}
	s.entries[k] = e
	s.order = append(s.order, k)
	s.bytes += e.cost
	for s.bytes > maxShared && len(s.order) > 1 {
		old := s.order[0]
		s.bytes -= s.entries[old].cost
		delete(s.entries, old)
		s.order = append(s.order[:0], s.order[1:]...)
	}
	return e
}
