package journal

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"sort"

	"github.com/statscache/statscache/internal/block"
)

// ReadAfter gives the blocks that follow position after, waiting for the first one: at most maxBytes of them (by
// Block.Bytes), but at least one. They come from memory where they were just appended, else from the files. The first
// block may begin at or below after where after lies inside it; blocks of one call may share memory. ErrTrimmed: what follows after was archived and
// removed; ErrClosed; ErrDamaged: the files can't be read any more.
func (j *Journal) ReadAfter(ctx context.Context, after uint64, maxBytes int) ([]*block.Block, error) {
	for {
		j.mu.Lock()
		changed := j.changed
		blocks, p, err := j.lookup(after, maxBytes)
		j.mu.Unlock()
		if err != nil || blocks != nil {
			return blocks, err
		}
		if p == nil {
			if err := wait(ctx, changed); err != nil {
				return nil, err
			}
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if p.unread != nil {
			if err = j.read(p.unread); err == nil {
				continue
			}
		} else {
			blocks, err = j.readFile(p, after, maxBytes)
		}
		if errors.Is(err, fs.ErrNotExist) {
			j.mu.Lock()
			gone := j.archived > after
			j.mu.Unlock()
			if gone { // trimmed since the look
				return nil, fmt.Errorf("read journal after %d: %w", after, ErrTrimmed)
			}
		}
		return blocks, err
	}
}

// place is where in which file to read: a copy, since a segment's own fields change.
type place struct {
	path     string
	seed     uint32
	at, size int64
	unread   *segment // must be scanned first
}

// lookup answers from memory, or says where to read; neither where there is nothing yet. Under mu.
func (j *Journal) lookup(after uint64, maxBytes int) ([]*block.Block, *place, error) {
	switch {
	case j.closed:
		return nil, nil, ErrClosed
	case after >= j.next:
		return nil, nil, fmt.Errorf("read journal after %d: the last position is %d", after, j.next-1)
	case after == j.next-1:
		return nil, nil, nil
	}
	want := after + 1
	if len(j.tail) > 0 && j.tail[0].b.First <= want {
		i := sort.Search(len(j.tail), func(i int) bool { return j.tail[i].b.Upto >= want })
		var out []*block.Block
		for size := 0; i < len(j.tail); i++ {
			if size += j.tail[i].size; size > maxBytes && len(out) > 0 {
				break
			}
			out = append(out, j.tail[i].b)
		}
		return out, nil, nil
	}
	i := sort.Search(len(j.segs), func(i int) bool { return j.segs[i].next > want })
	if i == len(j.segs) || j.segs[i].readable() > want {
		return nil, nil, fmt.Errorf("read journal after %d: %w", after, ErrTrimmed)
	}
	s := j.segs[i]
	if s.unread {
		return nil, &place{unread: s}, nil
	}
	return nil, &place{path: s.path, seed: s.seed, at: s.seek(want), size: s.size}, nil
}

// readable is the first position that the segment can be asked for.
func (s *segment) readable() uint64 {
	if s.unread {
		return s.first
	}
	if len(s.marks) > 0 {
		return s.marks[0].first
	}
	return s.next
}

// readFile decodes records from one segment. The file is opened for each call: Trim may remove it at any time, and
// what is read at once is large beside the cost of opening.
func (j *Journal) readFile(p *place, after uint64, maxBytes int) ([]*block.Block, error) {
	f, err := j.opt.Files.Open(p.path, os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	defer f.Close() // read only: nothing to lose
	buf, err := p.load(f, int64(markEvery+headBytes)+min(int64(max(0, maxBytes)), p.size))
	if err != nil {
		return nil, err
	}
	var out []*block.Block
	for size := 0; p.at < p.size; {
		if len(buf) < headBytes {
			if len(out) > 0 {
				break
			}
			if buf, err = p.load(f, headBytes+markEvery); err != nil {
				return nil, err
			}
		}
		h, ok := head{}, len(buf) >= headBytes
		if ok {
			h, ok = parseHead(buf, p.seed, p.at)
		}
		length := headBytes + int64(h.length)
		if !ok || p.at+length > p.size {
			return nil, p.damaged("no record where one was written")
		}
		if h.upto > after && int64(len(buf)) < length {
			if len(out) > 0 {
				break
			}
			if buf, err = p.load(f, length); err != nil { // longer than all that was asked for
				return nil, err
			}
		}
		if h.upto > after {
			b, err := p.decode(h, buf[headBytes:length])
			if err != nil {
				return nil, err
			}
			if size += b.Bytes(); size > maxBytes && len(out) > 0 {
				break
			}
			out = append(out, b)
		}
		p.at += length
		buf = buf[min(length, int64(len(buf))):]
	}
	if len(out) == 0 {
		return nil, p.damaged("the segment ends too early")
	}
	return out, nil
}

// load reads up to n bytes from where the place stands, no further than what is durable.
func (p *place) load(f File, n int64) ([]byte, error) {
	buf := make([]byte, min(n, p.size-p.at))
	got, err := f.ReadAt(buf, p.at)
	if got < len(buf) {
		if err == nil || err == io.EOF {
			return nil, p.damaged("the file is shorter than what was written")
		}
		return nil, fmt.Errorf("read journal %s at offset %d: %w", p.path, p.at, err)
	}
	return buf, nil
}

func (p *place) decode(h head, payload []byte) (*block.Block, error) {
	if crc32.Checksum(payload, castagnoli) != h.sum {
		return nil, p.damaged("the checksum of a record is wrong")
	}
	b, err := block.Decode(payload)
	if err != nil {
		return nil, p.damaged(err.Error())
	}
	if b.First != h.first || b.Upto != h.upto {
		return nil, p.damaged("a record's block has other positions than its head")
	}
	return b, nil
}

func (p *place) damaged(why string) error {
	return fmt.Errorf("%w: %s at offset %d: %s; %s", ErrDamaged, p.path, p.at, why, giveUpAdvice)
}

// dropTail forgets the first n blocks of the tail; under mu.
func (j *Journal) dropTail(n int) {
	for i := range n {
		j.tailSize -= j.tail[i].size
		j.tail[i] = tailBlock{} // the array lives on until append outgrows it
	}
	j.tail = j.tail[n:]
}
