package journal

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"path/filepath"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/internal/failpoint"
)

// maxKeptBuffer bounds the buffer that stays between appends.
const maxKeptBuffer = 16 << 20

// Append writes the blocks, which must follow each other and start at Next, and returns when they are durable: one
// write and one sync for all. After an error none of them counts as appended and the same blocks can be given again;
// ErrFull means that nothing was written because the bound is reached. On an empty journal an append may exceed
// MaxBytes.
func (j *Journal) Append(blocks []*block.Block) error {
	if len(blocks) == 0 {
		return nil
	}
	j.write.Lock()
	defer j.write.Unlock()
	if err := j.follows(blocks); err != nil {
		return err
	}
	heads, err := j.encode(blocks)
	if err != nil {
		return err
	}
	if err := j.makeRoom(int64(len(j.buf))); err != nil {
		return err
	}
	s, err := j.segmentFor(int64(len(j.buf)))
	if err != nil {
		return err
	}
	at := 0
	for _, h := range heads {
		h.group = s.size
		h.put(j.buf[at:], s.seed)
		at += headBytes + int(h.length)
	}
	if err := j.writeOut(s); err != nil {
		return err
	}
	j.acknowledge(s, blocks, heads)
	return nil
}

func (j *Journal) follows(blocks []*block.Block) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return ErrClosed
	}
	next := j.next
	for _, b := range blocks {
		if b.First != next || b.Upto < b.First || b.Upto >= math.MaxInt64 {
			return fmt.Errorf("append to journal: block of positions %d to %d where %d should follow", b.First, b.Upto, next)
		}
		next = b.Upto + 1
	}
	return nil
}

// encode puts the records into buf, with room for their heads: those need the segment.
func (j *Journal) encode(blocks []*block.Block) ([]head, error) {
	if cap(j.buf) > maxKeptBuffer {
		j.buf = nil
	}
	j.buf = j.buf[:0]
	heads := make([]head, 0, len(blocks))
	for _, b := range blocks {
		var room [headBytes]byte
		from := len(j.buf) + headBytes
		j.buf = b.Append(append(j.buf, room[:]...))
		payload := j.buf[from:]
		if len(payload) > maxPayload {
			return nil, fmt.Errorf("append to journal: block at position %d has %d bytes, at most %d are possible", b.First, len(payload), maxPayload)
		}
		heads = append(heads, head{length: uint32(len(payload)), sum: crc32.Checksum(payload, castagnoli), first: b.First, upto: b.Upto})
	}
	return heads, nil
}

// makeRoom answers ErrFull where n bytes more would exceed the bound. A last segment that is archived whole gives way
// first, so that a journal without anything unarchived takes an append of any size.
func (j *Journal) makeRoom(n int64) error {
	n += int64(headerBytes) // a new segment may be due
	j.mu.Lock()
	if j.used+n <= j.opt.MaxBytes || j.used == 0 {
		j.mu.Unlock()
		return nil
	}
	if j.archived+1 < j.next {
		j.need = n
		used := j.used
		j.mu.Unlock()
		return fmt.Errorf("%w: %d of %d bytes used, %d more needed", ErrFull, used, j.opt.MaxBytes, n)
	}
	j.mu.Unlock()
	j.disk.Lock()
	defer j.disk.Unlock()
	return j.removeArchived(true)
}

// WaitRoom waits until the append that was refused last has room, or everything is archived.
func (j *Journal) WaitRoom(ctx context.Context) error {
	for {
		j.mu.Lock()
		room, closed, changed := j.used+j.need <= j.opt.MaxBytes || j.archived+1 == j.next, j.closed, j.changed
		j.mu.Unlock()
		if closed {
			return ErrClosed
		}
		if room {
			return nil
		}
		if err := wait(ctx, changed); err != nil {
			return err
		}
	}
}

// segmentFor gives the segment that n bytes go to, a new one where the last is full or was given up. An append is
// never split: so every segment but the last is known to be complete, and a torn append can only be in the last.
func (j *Journal) segmentFor(n int64) (*segment, error) {
	j.mu.Lock()
	var s *segment
	if j.writing {
		s = j.segs[len(j.segs)-1]
	}
	next := j.next
	j.mu.Unlock()
	if s != nil && (s.size+n <= j.opt.SegmentBytes || s.next == s.first) {
		return s, nil
	}
	if s != nil {
		j.giveUp(s)
	}
	return j.startSegment(next)
}

// startSegment creates a segment under a temporary name. Its header is durable before it gets its own name, and the
// name is durable before the first append to it is acknowledged: else a power loss could take the whole file away.
func (j *Journal) startSegment(first uint64) (*segment, error) {
	var salt [8]byte
	_, _ = rand.Read(salt[:]) // never fails: crypto/rand ends the process instead
	header := encodeHeader(j.stream, first, binary.LittleEndian.Uint64(salt[:]))
	s := &segment{path: segmentPath(j.opt.Dir, first), first: first, next: first, start: int64(headerBytes), size: int64(headerBytes),
		seed: binary.LittleEndian.Uint32(header[headerBytes-4:])}
	temp := filepath.Join(j.opt.Dir, "segment"+tempSuffix)
	var f File
	err := writeSynced(j.opt.Files, temp, header, &f)
	if err != nil {
		_ = j.opt.Files.Remove(temp) // the next attempt overwrites it anyway
		return nil, fmt.Errorf("start journal segment %s: %w", s.path, err)
	}
	if err = j.opt.Failpoint.Around(failpoint.InboxRotate, func() error {
		if err := j.opt.Files.Rename(temp, s.path); err != nil {
			return err
		}
		return j.opt.Files.SyncDir(j.opt.Dir)
	}); err != nil {
		// Left behind it is an empty segment, which Open takes for what it is and the next attempt replaces.
		return nil, errors.Join(fmt.Errorf("start journal segment %s: %w", s.path, err), f.Close())
	}
	j.file = f
	j.mu.Lock()
	j.segs = append(j.segs, s)
	j.used += s.size
	j.writing = true
	j.mu.Unlock()
	return s, nil
}

// writeOut writes buf behind the segment's last record and makes it durable.
func (j *Journal) writeOut(s *segment) error {
	points := j.opt.Failpoint
	if err := points.Around(failpoint.InboxAppend, func() error { return writeWhole(j.file, j.buf, s.size) }); err != nil {
		// Part of it may be there. Cut back, the segment is as before; where even that fails it gets no more records
		// and Open passes over what lies behind the start of the next segment.
		if cutErr := j.file.Truncate(s.size); cutErr != nil {
			j.giveUp(s)
		}
		return fmt.Errorf("write journal %s: %w", s.path, err)
	}
	if err := points.Around(failpoint.InboxSync, j.file.Sync); err != nil {
		// The kernel may have marked the pages clean without having written them: a later sync that succeeds says
		// nothing about them. What was acknowledged before is on disk; these records go to a new file.
		_ = j.file.Truncate(s.size) // so that a restart doesn't read them from memory and believe them durable
		j.giveUp(s)
		return fmt.Errorf("sync journal %s: %w", s.path, err)
	}
	return nil
}

// giveUp ends writing to the last segment. What was acknowledged in it stays; an empty one goes: its name is needed.
func (j *Journal) giveUp(s *segment) {
	_ = j.file.Close() // everything acknowledged was synced
	j.file = nil
	j.mu.Lock()
	defer j.mu.Unlock()
	j.writing = false
	if s.next == s.first {
		j.segs = j.segs[:len(j.segs)-1]
		j.used -= s.size // the file itself is replaced by the next segment, which starts at the same position
	}
}

func (j *Journal) acknowledge(s *segment, blocks []*block.Block, heads []head) {
	j.mu.Lock()
	defer j.mu.Unlock()
	at, group := s.size, s.size
	for _, h := range heads {
		h.group = group
		s.addRecord(h, at)
		at = s.size
	}
	j.used += s.size - group
	j.next = s.next
	j.need = 0
	for _, b := range blocks {
		size := b.Bytes()
		j.tail = append(j.tail, tailBlock{b, size})
		j.tailSize += size
	}
	n := 0
	for size := j.tailSize; size > j.opt.TailBytes && n < len(j.tail); n++ {
		size -= j.tail[n].size
	}
	j.dropTail(n)
	j.wake()
}
