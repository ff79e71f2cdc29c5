package consumer

import (
	"context"
	"fmt"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// fate counts what became of a block's events.
type fate struct{ owned, duplicates, expired int }

func counted(done []store.Archived) []fate {
	out := make([]fate, 0, len(done))
	for _, d := range done {
		out = append(out, fate{d.Owned.Len(), d.Duplicates, d.Expired})
	}
	return out
}

func owned(done []store.Archived) []*block.Block {
	out := make([]*block.Block, 0, len(done))
	for _, d := range done {
		out = append(out, d.Owned)
	}
	return out
}

// readBack counts what became of blocks where the call was repeated: an attempt that failed may have taken some of them,
// and the answer to the last one does not name those as owned. The archive knows them by their positions. Of the others
// those are duplicates that the answer does not call expired.
func (a *archiver) readBack(ctx context.Context, blocks []*block.Block, done []store.Archived) ([]fate, error) {
	out := make([]fate, len(blocks))
	at, end, next := blocks[0].First-1, blocks[len(blocks)-1].Upto, 0
	for at < end {
		list, upto, err := a.feed.archive.Read(ctx, store.ReadRequest{Stream: a.stream, After: at, Events: readEvents})
		if err != nil {
			return nil, fmt.Errorf("read back what was archived of stream %s after %d: %w", a.stream, at, err)
		}
		for _, b := range list {
			for i := range b.Len() {
				seq := b.Seq(i)
				for next < len(blocks) && blocks[next].Upto < seq {
					next++
				}
				if next < len(blocks) && seq > at && seq >= blocks[next].First { // a block may begin before what was asked for
					out[next].owned++
				}
			}
		}
		if upto <= at {
			break // nothing else is owned
		}
		at = upto
	}
	for i, b := range blocks {
		rest := max(0, b.Len()-out[i].owned)
		out[i].expired = min(rest, done[i].Expired)
		out[i].duplicates = rest - out[i].expired
	}
	return out, nil
}
