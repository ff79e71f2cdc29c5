package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const giveUpAdvice = "restore the file from a copy; or move the whole folder away: a new stream begins then, and what was not archived is lost from here (backfill can fetch it again)"

func segmentPath(dir string, first uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%020d%s", first, segmentSuffix))
}

// listSegments gives the segments that their names announce, in order, and leaves other files alone.
func listSegments(files Files, dir string) ([]*segment, error) {
	names, err := files.List(dir)
	if err != nil {
		return nil, fmt.Errorf("list journal: %w", err)
	}
	var segs []*segment
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, segmentSuffix)
		if first, err := strconv.ParseUint(digits, 10, 63); ok && err == nil && first > 0 && len(digits) == 20 {
			segs = append(segs, &segment{path: filepath.Join(dir, name), first: first})
		}
	}
	slices.SortFunc(segs, func(a, b *segment) int { return strings.Compare(a.path, b.path) })
	return segs, nil
}

// readHeader takes a segment's header in and gives its stream.
func (s *segment) readHeader(f File) (stream string, err error) {
	size, err := f.Size()
	if err != nil {
		return "", fmt.Errorf("read %s: %w", s.path, err)
	}
	b := make([]byte, min(size, int64(headerBytes)))
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return "", fmt.Errorf("read %s: %w", s.path, err)
	}
	stream, first, seed, err := decodeHeader(b)
	if err == nil && first != s.first {
		err = fmt.Errorf("its header says that it starts at position %d", first)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %s at offset 0: %w; %s", ErrDamaged, s.path, err, giveUpAdvice)
	}
	s.seed, s.next, s.start, s.size = seed, first, int64(headerBytes), int64(headerBytes)
	return stream, nil
}

func streamOfSegment(files Files, s *segment) (string, error) {
	f, err := files.Open(s.path, os.O_RDONLY)
	if err != nil {
		return "", fmt.Errorf("open journal: %w", err)
	}
	defer f.Close() // read only: nothing to lose
	return s.readHeader(f)
}

// load finds out where the last life ended.
func (j *Journal) load() error {
	files, dir := j.opt.Files, j.opt.Dir
	if err := files.MkdirAll(dir); err != nil {
		return fmt.Errorf("create journal: %w", err)
	}
	// The folder's own name must survive a power loss too.
	if err := files.SyncDir(filepath.Dir(filepath.Clean(dir))); err != nil {
		return fmt.Errorf("create journal: %w", err)
	}
	segs, err := listSegments(files, dir)
	if err != nil {
		return err
	}
	st, err := j.identity(segs)
	if err != nil {
		return err
	}
	j.stream, j.renewed, j.base = st.stream, st.renewed, st.base
	j.archived = max(st.archived, j.opt.ArchivedTo)
	j.next = max(st.next, j.archived+1)
	if j.next > math.MaxInt64 {
		return fmt.Errorf("open journal: archived to position %d: out of range", j.opt.ArchivedTo)
	}
	// Segments archived whole aren't even looked at: they may be damaged. So only names are trusted here, and the
	// state that makes their absence right comes first.
	n := 0
	for n+1 < len(segs) && segs[n+1].first-1 <= j.archived {
		n++
	}
	if j.archived > st.archived || n > 0 {
		if err := j.saveState(j.state()); err != nil {
			return err
		}
	}
	if err := j.remove(segs[:n]); err != nil {
		return err
	}
	j.segs, j.used = segs[n:], 0 // what remove counted was never in used
	return j.readSegments(st.next)
}

// identity reads the state, or makes it: anew in an empty folder, from the segments where only the file is missing.
func (j *Journal) identity(segs []*segment) (state, error) {
	st, err := readState(j.opt.Files, j.opt.Dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return st, err
	}
	st = state{stream: newStream(), archived: 0, next: 1}
	if len(segs) > 0 {
		if st.stream, err = streamOfSegment(j.opt.Files, segs[len(segs)-1]); err != nil {
			return st, err
		}
		st.archived, st.next = segs[0].first-1, segs[len(segs)-1].first
		j.opt.Logger.Warn("the stream file was missing and is rebuilt from the segments", "dir", j.opt.Dir, "stream", st.stream)
	}
	return st, j.saveState(st)
}

// readSegments finds out where the log ends. Only the last segment is scanned: the others are complete, and a start
// must not wait until a gibibyte is read; they are scanned when somebody reads them. acked is the floor of the numbering
// that is on record: every position below it was acknowledged.
func (j *Journal) readSegments(acked uint64) error {
	reached := j.archived + 1
	for i, s := range j.segs {
		if s.first > reached {
			return fmt.Errorf("%w: positions %d to %d are missing before %s; %s", ErrDamaged, reached, s.first-1, s.path, giveUpAdvice)
		}
		err := error(nil)
		if i+1 < len(j.segs) {
			err = j.announce(s, j.segs[i+1].first)
		} else {
			err = j.readLast(s, acked)
		}
		if err != nil {
			return err
		}
		j.used += s.size
		reached = max(s.next, j.archived+1)
	}
	if reached < acked {
		return fmt.Errorf("%w: positions %d to %d are missing at the end of %s; %s", ErrDamaged, reached, acked-1, j.opt.Dir, giveUpAdvice)
	}
	j.next = reached
	if n := len(j.segs); n > 0 && j.segs[n-1].next < reached {
		// All of it is archived, and the numbering goes on above: what follows can't go into the same file.
		if j.file != nil {
			_ = j.file.Close() // nothing in it is needed any more
			j.file = nil
		}
		return j.removeArchived(true)
	}
	j.writing = j.file != nil
	return nil
}

// announce takes a segment in whose records nobody has read yet; the next one starts at limit.
func (j *Journal) announce(s *segment, limit uint64) error {
	f, size, err := j.openSegment(s, os.O_RDONLY)
	if err != nil {
		return err
	}
	s.next, s.size, s.unread = limit, size, true
	return f.Close() // read only: nothing to lose
}

// openSegment opens a segment's file, takes its header in and gives its size.
func (j *Journal) openSegment(s *segment, flag int) (f File, size int64, err error) {
	if f, err = j.opt.Files.Open(s.path, flag); err != nil {
		return nil, 0, fmt.Errorf("open journal: %w", err)
	}
	stream, err := s.readHeader(f)
	if err == nil && stream != j.stream {
		err = fmt.Errorf("open journal: %s belongs to stream %s, the folder to %s; move the file away", s.path, stream, j.stream)
	}
	if err == nil {
		if size, err = f.Size(); err != nil {
			err = fmt.Errorf("read %s: %w", s.path, err)
		}
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}

// readLast scans the last segment and leaves it open for appending.
func (j *Journal) readLast(s *segment, acked uint64) error {
	f, size, err := j.openSegment(s, os.O_RDWR)
	if err != nil {
		return err
	}
	j.file = f // Open closes it on an error
	why, err := j.scanSegment(s, f, size, span{limit: math.MaxUint64, acked: acked, archived: j.archived})
	if err != nil {
		return err
	}
	return j.endOfLog(s, f, size, why)
}

// read scans a segment that was only announced, up to the position where the next one starts. It is the first thing
// that a reader does with it; damage is found here.
func (j *Journal) read(s *segment) error {
	j.scanning.Lock()
	defer j.scanning.Unlock()
	j.mu.Lock()
	unread, limit, archived := s.unread, s.next, j.archived
	j.mu.Unlock()
	if !unread {
		return nil
	}
	c := &segment{path: s.path, first: s.first}
	f, size, err := j.openSegment(c, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close() // read only: nothing to lose
	if _, err = j.scanSegment(c, f, size, span{limit: limit, archived: archived}); err != nil {
		return err
	}
	if c.next < limit {
		return fmt.Errorf("%w: %s at offset %d: the file ends at position %d, the next one starts at %d; %s",
			ErrDamaged, c.path, c.size, c.next-1, limit, giveUpAdvice)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if slices.Contains(j.segs, s) { // else it is archived meanwhile, and whoever removes it has it
		j.used += c.size - s.size
		*s = *c
	}
	return nil
}

// span is what is known of a segment's positions before it is scanned.
type span struct {
	limit    uint64 // where the next segment starts; math.MaxUint64 for the last one
	acked    uint64 // every position below it was acknowledged
	archived uint64 // what is archived may be damaged
}

// scanSegment takes in a segment's records and says what stopped it before the limit.
func (j *Journal) scanSegment(s *segment, f File, size int64, sp span) (why string, err error) {
	w := newWindow(f, size)
	for again := true; again; {
		if why, err = s.scan(w, sp.limit); err == nil && why != "" {
			again, err = j.skipDamage(s, w, sp, why)
		} else {
			again = false
		}
		if err != nil {
			return why, fmt.Errorf("read %s: %w", s.path, err)
		}
	}
	return why, nil
}

// skipDamage decides about the bad record at s.size. What is archived is passed over, and scanning goes on behind it;
// an append that was never finished ends the segment; anything else is an error.
func (j *Journal) skipDamage(s *segment, w *window, sp span, why string) (again bool, err error) {
	r, err := s.behind(w, s.size, sp.limit)
	if err != nil {
		return false, err
	}
	if r.found && r.first-1 <= sp.archived {
		j.opt.Logger.Warn("passed over damage in what is archived", "file", s.path, "offset", s.size, "bytes", r.at-s.size, "reason", why)
		// All before is archived as well, so the segment is as if it began here.
		s.start, s.size, s.next, s.marks = r.at, r.at, r.first, nil
		return true, nil
	}
	last := sp.limit == math.MaxUint64
	if last && (!r.acked || r.highest <= sp.archived) && (sp.acked <= s.next || sp.acked-1 <= sp.archived) {
		return false, nil
	}
	return false, fmt.Errorf("%w at offset %d (position %d): %s; these events were acknowledged and are archived only up to %d; %s",
		ErrDamaged, s.size, s.next, why, sp.archived, giveUpAdvice)
}

// endOfLog cuts what lies behind the last record and makes sure that the rest is durable.
func (j *Journal) endOfLog(s *segment, f File, size int64, why string) error {
	if size > s.size {
		j.opt.Logger.Warn("cut the torn end of an append that was never acknowledged", "file", s.path,
			"offset", s.size, "bytes", size-s.size, "next", s.next, "reason", why)
		if err := f.Truncate(s.size); err != nil {
			return fmt.Errorf("cut %s: %w", s.path, err)
		}
	}
	// The last append may have been read from memory without being on disk: the process died before its sync, or the
	// sync failed, which leaves pages that count as clean. Written again they are dirty, and this sync means them.
	if s.next > s.first && s.size > s.start {
		buf := make([]byte, s.size-max(s.group, s.start))
		if _, err := f.ReadAt(buf, s.size-int64(len(buf))); err != nil {
			return fmt.Errorf("read %s: %w", s.path, err)
		}
		if err := writeWhole(f, buf, s.size-int64(len(buf))); err != nil {
			return fmt.Errorf("write %s: %w", s.path, err)
		}
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", s.path, err)
	}
	return nil
}
