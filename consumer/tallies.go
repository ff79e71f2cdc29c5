package consumer

import (
	"sync"
	"sync/atomic"
)

// importTally counts what became of the events of one import. A block holds the events of one import only, so that the counts
// are exact however many others are under way.
type importTally struct {
	owned, duplicates, expired atomic.Int64
	// again says that all events of the block that was archived last were known: it pays to ask before the inbox.
	again atomic.Bool
}

// tallies remembers which import a block on its way through the inbox belongs to, by the block's first position. There
// are no more entries than such blocks in the inbox.
type tallies struct {
	mu sync.Mutex
	of map[uint64]*importTally
}

func newTallies() *tallies { return &tallies{of: map[uint64]*importTally{}} }

// expect notes that the block at first is an import's.
func (t *tallies) expect(first uint64, i *importTally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of[first] = i
}

// archived counts what became of the block at first, if it is an import's.
func (t *tallies) archived(first uint64, o fate) {
	t.mu.Lock()
	i := t.of[first]
	delete(t.of, first)
	t.mu.Unlock()
	if i == nil {
		return
	}
	i.owned.Add(int64(o.owned))
	i.duplicates.Add(int64(o.duplicates))
	i.expired.Add(int64(o.expired))
	i.again.Store(o.owned+o.expired == 0)
}
