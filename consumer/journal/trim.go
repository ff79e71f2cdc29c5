package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"sort"

	"github.com/statscache/statscache/internal/failpoint"
)

// Trim says that everything up to position to is archived. Segments wholly at or below it are removed; the one that
// is being written stays while it is small. The numbering goes on, also after everything was trimmed.
func (j *Journal) Trim(to uint64) error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return ErrClosed
	}
	if to >= j.next {
		defer j.mu.Unlock()
		return fmt.Errorf("trim journal to %d: the last position is %d", to, j.next-1)
	}
	if to > j.archived {
		j.archived = to
		j.dropTail(sort.Search(len(j.tail), func(i int) bool { return j.tail[i].b.Upto > to }))
		j.wake()
	}
	n := len(j.segs)
	sealed := n > 0 && j.segs[0].next-1 <= j.archived && (n > 1 || !j.writing)
	recycle := j.writing && j.archived+1 == j.next && j.segs[n-1].size >= min(recycleBytes, j.opt.SegmentBytes/4)
	j.mu.Unlock()
	if !sealed && !recycle {
		return nil
	}
	if recycle { // the writer must not be in that segment
		j.write.Lock()
		defer j.write.Unlock()
	}
	j.disk.Lock()
	defer j.disk.Unlock()
	return j.removeArchived(recycle)
}

// SetStart moves the numbering up to next because the store has archived everything below it: the journal was lost
// and only its id survived, or it was restored from an older copy. All that the journal still holds is then below
// next and goes. The numbering never goes back: with next at or below Next nothing happens.
func (j *Journal) SetStart(next uint64) error {
	if next > math.MaxInt64 {
		return fmt.Errorf("start journal at %d: out of range", next)
	}
	j.write.Lock()
	defer j.write.Unlock()
	j.disk.Lock()
	defer j.disk.Unlock()
	j.mu.Lock()
	closed, done := j.closed, next <= j.next
	j.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if done {
		return nil
	}
	// Durable before it is used: a crash in between must not give out positions that are archived already.
	j.mu.Lock()
	st := j.state()
	j.mu.Unlock()
	st.archived, st.next = next-1, next
	if err := j.saveState(st); err != nil {
		return err
	}
	j.mu.Lock()
	j.next, j.archived = next, next-1
	j.dropTail(len(j.tail))
	j.wake()
	j.mu.Unlock()
	return j.removeArchived(true)
}

// Renew begins a new stream where the former one was retired: what is above its archived_to, received already or not,
// is the new one's from now on, under the positions that it has. Nothing of it is moved or copied: only the name changes,
// durably before this returns. The archive's numbering of the new stream must begin behind archivedTo (see Base).
func (j *Journal) Renew(archivedTo uint64) (stream string, err error) {
	if err := j.SetStart(archivedTo + 1); err != nil {
		return "", err
	}
	j.disk.Lock()
	defer j.disk.Unlock()
	j.mu.Lock()
	closed := j.closed
	st := j.state()
	j.mu.Unlock()
	if closed {
		return "", ErrClosed
	}
	st.renewed, st.base, st.archived = newStream(), archivedTo, max(st.archived, archivedTo)
	if err := j.saveState(st); err != nil {
		return "", err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.renewed, j.base, j.archived = st.renewed, st.base, max(j.archived, archivedTo)
	j.dropTail(sort.Search(len(j.tail), func(i int) bool { return j.tail[i].b.Upto > j.archived }))
	j.wake()
	return j.renewed, nil
}

// removeArchived removes the segments that are archived whole, with recycle also the one being written. The caller
// holds disk, with recycle also write.
func (j *Journal) removeArchived(recycle bool) error {
	j.mu.Lock()
	st := j.state()
	n := 0
	for n < len(j.segs) && j.segs[n].next-1 <= j.archived && (recycle || !j.writing || n < len(j.segs)-1) {
		n++
	}
	j.mu.Unlock()
	if n == 0 {
		return nil
	}
	// First the record that these positions are archived and where the numbering stands, then the removals: else a
	// crash in between looks like lost segments, or starts the numbering anew.
	if err := j.saveState(st); err != nil {
		return err
	}
	j.mu.Lock()
	victims := append([]*segment(nil), j.segs[:n]...) // the front can't have changed: only the holder of disk takes from it
	j.segs = append([]*segment(nil), j.segs[n:]...)
	last := j.writing && len(j.segs) == 0
	if last {
		j.writing = false
	}
	j.mu.Unlock()
	if last {
		_ = j.file.Close() // nothing in it is needed any more
		j.file = nil
	}
	return j.remove(victims)
}

// remove deletes files of segments that are out of the list already, so that no reader is sent to a missing file.
func (j *Journal) remove(victims []*segment) error {
	if len(victims) == 0 {
		return nil
	}
	freed, removed := int64(0), 0
	err := j.opt.Failpoint.Before(failpoint.InboxTrim)
	for _, s := range victims {
		if err != nil {
			break
		}
		if err = j.opt.Files.Remove(s.path); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err == nil {
			freed += s.size
			removed++
		}
	}
	if err != nil {
		err = fmt.Errorf("remove journal segment: %w", err)
	}
	var again []*segment // for the next Trim; an empty one is replaced by the next segment, which has its name
	for _, s := range victims[removed:] {
		if s.next > s.first {
			again = append(again, s)
		} else {
			freed += s.size
		}
	}
	j.mu.Lock()
	j.segs = append(again, j.segs...)
	j.used -= freed
	j.wake()
	j.mu.Unlock()
	if removed > 0 && err == nil {
		// Not for correctness (a segment that comes back is archived and goes at Open), but so that the space is free
		// for good before more is written.
		if err = j.opt.Files.SyncDir(j.opt.Dir); err != nil {
			return fmt.Errorf("sync %s: %w", j.opt.Dir, err)
		}
	}
	if err != nil {
		return err
	}
	return j.opt.Failpoint.After(failpoint.InboxTrim)
}
