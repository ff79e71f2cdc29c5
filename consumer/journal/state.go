package journal

import (
	"cmp"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/statscache/statscache/internal/failpoint"
)

const (
	stateName   = "stream"
	tempSuffix  = ".tmp"
	streamBytes = 26 // 130 random bits in base32
	stateFormat = "statscache journal 1\nstream %s\narchived %d\nnext %d\n"
	renewFormat = "since %d it is %s\n" // a further line where Renew gave another id
	maxState    = 4096
)

// state is what the file "stream" keeps: the identity of the numbering, and the two ends that segments can't show
// once they are gone. Every position in (archived, next) was acknowledged and stands in a segment.
type state struct {
	stream   string
	archived uint64 // everything up to here is archived: its absence is no loss
	next     uint64 // a floor: the numbering never starts below it
	// What Renew gave: positions above base are those of the stream renewed. Files keep the first id for ever, by which
	// they are known to belong together.
	renewed string
	base    uint64
}

// state is what of the journal the file keeps; under mu, or before anybody else knows the journal.
func (j *Journal) state() state {
	return state{stream: j.stream, archived: j.archived, next: j.next, renewed: j.renewed, base: j.base}
}

func newStream() string {
	var raw [17]byte
	_, _ = rand.Read(raw[:]) // never fails: crypto/rand ends the process instead
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw[:]))[:streamBytes]
}

func validStream(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return len(s) == streamBytes
}

func (s state) encode() []byte {
	text := fmt.Sprintf(stateFormat, s.stream, s.archived, s.next)
	if s.renewed != "" {
		text += fmt.Sprintf(renewFormat, s.base, s.renewed)
	}
	return fmt.Appendf(nil, "%scrc32c %08x\n", text, crc32.Checksum([]byte(text), castagnoli))
}

func decodeState(data []byte) (state, error) {
	var s state
	if _, err := fmt.Sscanf(string(data), stateFormat+renewFormat, &s.stream, &s.archived, &s.next, &s.base, &s.renewed); err != nil {
		s = state{}
		if _, err := fmt.Sscanf(string(data), stateFormat, &s.stream, &s.archived, &s.next); err != nil {
			return state{}, fmt.Errorf("not a stream file of this version: %w", err)
		}
	}
	// Comparing with what these values encode to covers the checksum and anything behind it.
	if string(s.encode()) != string(data) {
		return state{}, errors.New("its checksum is wrong")
	}
	if !validStream(s.stream) || s.next == 0 || s.archived >= s.next || s.next > math.MaxInt64 ||
		s.renewed != "" && (!validStream(s.renewed) || s.base > s.archived) {
		return state{}, errors.New("its values make no sense")
	}
	return s, nil
}

// readState answers fs.ErrNotExist where there is no file.
func readState(files Files, dir string) (state, error) {
	path := filepath.Join(dir, stateName)
	f, err := files.Open(path, os.O_RDONLY)
	if err != nil {
		return state{}, fmt.Errorf("open journal: %w", err)
	}
	defer f.Close() // read only: nothing to lose
	size, err := f.Size()
	if err != nil {
		return state{}, fmt.Errorf("read %s: %w", path, err)
	}
	data := make([]byte, min(size, maxState))
	if n, err := f.ReadAt(data, 0); n < len(data) {
		return state{}, fmt.Errorf("read %s: %w", path, err)
	}
	s, err := decodeState(data)
	if err != nil {
		return state{}, fmt.Errorf("%w: %s: %w; restore it, or remove this one file: it is then rebuilt from the segments beside it",
			ErrDamaged, path, err)
	}
	return s, nil
}

// saveState replaces the file. The order is what makes it atomic: contents durable before the name points to them,
// the name durable before anything relies on it.
func (j *Journal) saveState(s state) error {
	path := filepath.Join(j.opt.Dir, stateName)
	temp := path + tempSuffix
	if err := writeSynced(j.opt.Files, temp, s.encode(), nil); err != nil {
		return fmt.Errorf("write %s: %w", temp, err)
	}
	return j.opt.Failpoint.Around(failpoint.InboxState, func() error {
		if err := j.opt.Files.Rename(temp, path); err != nil {
			return fmt.Errorf("replace %s: %w", path, err)
		}
		if err := j.opt.Files.SyncDir(j.opt.Dir); err != nil {
			return fmt.Errorf("sync %s: %w", j.opt.Dir, err)
		}
		return nil
	})
}

// writeSynced writes a file whole and durable. With keep the open file is handed over, else it is closed.
func writeSynced(files Files, path string, data []byte, keep *File) error {
	// What an earlier attempt left is removed, not overwritten: on some file systems a power loss in a rename leaves
	// both names on one file, and the other name is that of a segment in use.
	if err := files.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := files.Open(path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	err = writeWhole(f, data, 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil && keep != nil {
		*keep = f
		return nil
	}
	return errors.Join(err, f.Close())
}

// StreamOf gives the stream id in a journal's folder without opening the journal, "" where there is none yet: whoever
// must ask the store for archived_to before Open needs it. files may be nil.
func StreamOf(files Files, dir string) (string, error) {
	if files == nil {
		files = osFiles{}
	}
	s, err := readState(files, dir)
	if err == nil {
		return cmp.Or(s.renewed, s.stream), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	segs, err := listSegments(files, dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(segs) == 0 {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return streamOfSegment(files, segs[len(segs)-1])
}
