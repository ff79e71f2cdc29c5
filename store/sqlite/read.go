package sqlite

import (
	"context"
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// Read gives the owned events of a stream after a position.
func (d *DB) Read(ctx context.Context, r store.ReadRequest) (out []*block.Block, upto uint64, err error) {
	err = d.read(ctx, "read stream "+r.Stream, func(c *conn) (err error) {
		out, upto, err = readStream(c, r)
		return err
	})
	return out, upto, err
}

func readStream(c *conn, r store.ReadRequest) (out []*block.Block, upto uint64, err error) {
	var no, end int64
	if err := c.each("SELECT no, archived_to FROM stream WHERE id=?", func(s *sqlite.Stmt) error {
		no, end = s.ColumnInt64(0), s.ColumnInt64(1)
		return nil
	}, r.Stream); err != nil {
		return nil, 0, err
	}
	if no == 0 {
		return nil, 0, fmt.Errorf("%w stream %s", store.ErrUnknown, r.Stream)
	}
	if r.After >= uint64(end) {
		return nil, r.After, nil
	}
	m := merger{c: c, bodies: r.Bodies, after: r.After}
	for i := range m.heads {
		m.heads[i] = head{stream: no, lane: i, upto: r.After}
		if err := m.advance(&m.heads[i]); err != nil {
			return nil, 0, err
		}
	}
	for events := 0; events < max(1, r.Events); {
		b, err := m.next()
		if err != nil {
			return nil, 0, err
		}
		if b == nil {
			return out, uint64(end), nil
		}
		events += b.Len()
		out = append(out, b)
	}
	if upto, more := m.bound(); more {
		return out, upto, nil
	}
	return out, uint64(end), nil
}

// merger reads the lanes of one stream in the order of positions. Blocks of one lane never overlap, but one that was
// merged out of small ones may span blocks of the other lane: it comes in pieces then.
type merger struct {
	c      *conn
	bodies bool
	after  uint64 // everything up to here was given
	heads  [lanes]head
}

// head is the next block of a lane.
type head struct {
	stream int64
	lane   int
	hot    bool
	id     int64  // 0 where the lane has no more
	from   uint64 // no event of the block that is still to come stands before it
	upto   uint64
	b      *block.Block // nil until it is read
}

// advance goes to the next block of the lane: those in blk come before those in hot.
func (m *merger) advance(h *head) error {
	upto := h.upto
	*h = head{stream: h.stream, lane: h.lane, hot: h.hot, upto: upto}
	row := func(s *sqlite.Stmt) error {
		h.id, h.from, h.upto = s.ColumnInt64(0), max(uint64(s.ColumnInt64(1)), upto+1), uint64(s.ColumnInt64(2))
		return nil
	}
	if !h.hot {
		err := m.c.each("SELECT id, first, upto FROM blk WHERE stream=? AND lane=? AND upto>? ORDER BY upto LIMIT 1", row, h.stream, h.lane, upto)
		if err != nil || h.id != 0 {
			return err
		}
		h.hot = true
	}
	return m.c.each("SELECT id, first, upto FROM hot WHERE stream=? AND lane=? AND upto>? ORDER BY upto LIMIT 1", row, h.stream, h.lane, upto)
}

// bound gives the position up to which everything was given.
func (m *merger) bound() (upto uint64, more bool) {
	for i := range m.heads {
		if h := &m.heads[i]; h.id != 0 && (!more || h.from-1 < upto) {
			upto, more = h.from-1, true
		}
	}
	return upto, more
}

// next gives the next events, nil at the end.
func (m *merger) next() (*block.Block, error) {
	for {
		h, limit := m.first()
		if h == nil {
			return nil, nil
		}
		if h.b == nil {
			if err := m.load(h); err != nil {
				return nil, err
			}
			if !h.later(m.after) {
				if err := m.advance(h); err != nil {
					return nil, err
				}
				continue
			}
			if h.from > limit {
				continue // the other lane has events before it
			}
		}
		piece, err := h.cut(m.after, limit)
		if err != nil {
			return nil, err
		}
		m.after = piece.Upto
		if !h.later(m.after) {
			if err := m.advance(h); err != nil {
				return nil, err
			}
		}
		if piece.Len() > 0 {
			return piece, nil
		}
	}
}

// first gives the head that comes first and the last position before the other lane's.
func (m *merger) first() (h *head, limit uint64) {
	limit = 1<<64 - 1
	for i := range m.heads {
		x := &m.heads[i]
		switch {
		case x.id == 0:
		case h == nil:
			h = x
		case x.from < h.from, x.from == h.from && x.b == nil: // a block that is yet to be read may begin later
			h, limit = x, h.from-1
		default:
			limit = x.from - 1
		}
	}
	return h, limit
}

// load reads the head's block and finds its first event behind what was given.
func (m *merger) load(h *head) (err error) {
	if h.hot {
		d, err := m.c.blob("SELECT d FROM hot WHERE id=?", h.id)
		if err != nil {
			return err
		}
		if h.b, err = block.Decode(d); err != nil {
			return fmt.Errorf("small block %d: %w", h.id, err)
		}
		if !m.bodies {
			bare := *h.b
			bare.Frames = nil
			h.b = &bare
		}
	} else if h.b, err = readBlock(m.c, h.id, m.bodies); err != nil {
		return err
	}
	return nil
}

// later moves from to the first event behind a position; false where there is none.
func (h *head) later(after uint64) bool {
	for i := range h.b.Len() {
		if s := h.b.Seq(i); s > after {
			h.from = s
			return true
		}
	}
	return false
}

// cut gives the block's events in (after, limit].
func (h *head) cut(after, limit uint64) (*block.Block, error) {
	keep := make([]bool, h.b.Len())
	for i := range keep {
		s := h.b.Seq(i)
		keep[i] = s > after && s <= limit
	}
	kept, err := h.b.Keep(keep)
	if err != nil {
		return nil, fmt.Errorf("block %d: %w", h.id, err)
	}
	piece := *kept
	piece.First, piece.Upto = max(piece.First, after+1), min(piece.Upto, limit)
	return &piece, nil
}

// readBlock reads an archived block.
func readBlock(c *conn, id int64, bodies bool) (*block.Block, error) {
	d, err := c.blob("SELECT d FROM col WHERE id=?", id)
	if err != nil {
		return nil, err
	}
	var frames [][]byte
	if bodies {
		frames = [][]byte{}
		if err := c.each("SELECT d FROM body WHERE id BETWEEN ? AND ? ORDER BY id", func(s *sqlite.Stmt) error {
			frames = append(frames, columnBytes(s, 0))
			return nil
		}, id<<frameBits, (id+1)<<frameBits-1); err != nil {
			return nil, err
		}
	}
	b, err := block.DecodeHeader(d, frames)
	if err != nil {
		return nil, fmt.Errorf("block %d: %w", id, err)
	}
	return b, nil
}
