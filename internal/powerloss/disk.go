package powerloss

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// sector is what a disk writes whole or not at all.
const sector = 512

// Disk is a folder as programs see it and as it is on the medium: contents as of each file's last sync, entries as of
// their folder's last sync. Nothing else is durable: what file systems do beyond POSIX is not relied upon.
type Disk struct {
	seen    map[string]uint64 // files and folders by path
	durable map[string]uint64
	nodes   map[uint64]*node
}

type node struct {
	folder bool
	data   []byte
	synced []byte
	dirty  map[int]bool // sectors that differ, perhaps
	begun  map[int64]snapshot
}

// snapshot is what a sync under way will have made durable.
type snapshot struct {
	size    int
	sectors map[int][]byte
	entries map[string]uint64 // of a folder
}

// NewDisk gives an empty folder that is durable itself.
func NewDisk() *Disk {
	return &Disk{seen: map[string]uint64{}, durable: map[string]uint64{}, nodes: map[uint64]*node{}}
}

// Apply goes one step further.
func (d *Disk) Apply(s Step) error {
	n := d.nodes[s.File]
	if n == nil && (s.Op == Write || s.Op == Truncate) {
		return fmt.Errorf("step %d: no file %d", s.Op, s.File)
	}
	switch s.Op {
	case Create, Mkdir:
		d.nodes[s.File] = &node{folder: s.Op == Mkdir, dirty: map[int]bool{}, begun: map[int64]snapshot{}}
		d.seen[s.Path] = s.File
	case Write:
		n.resize(max(len(n.data), int(s.At)+len(s.Data)))
		copy(n.data[s.At:], s.Data)
		n.touch(int(s.At), int(s.At)+len(s.Data))
	case Truncate:
		n.resize(int(s.At))
	case SyncBegin:
		d.node(s).begun[s.At] = d.snapshot(s)
	case SyncEnd:
		d.keep(s)
	case SyncFail:
		n := d.node(s)
		for at := range n.begun[s.At].sectors {
			n.dirty[at] = true
		}
		delete(n.begun, s.At)
	case Rename:
		d.seen[string(s.Data)] = d.seen[s.Path]
		delete(d.seen, s.Path)
	case Remove:
		delete(d.seen, s.Path)
	case Unknown:
		return fmt.Errorf("%s: the process uses %s, which is not followed", s.Path, s.Data)
	}
	return nil
}

// node gives what a sync is about. The folder at the top has no number.
func (d *Disk) node(s Step) *node {
	if d.nodes[s.File] == nil {
		d.nodes[s.File] = &node{folder: true, begun: map[int64]snapshot{}}
	}
	return d.nodes[s.File]
}

func (n *node) resize(size int) {
	before := len(n.data)
	if size > before {
		n.data = append(n.data, make([]byte, size-before)...)
	} else {
		clear(n.data[size:])
		n.data = n.data[:size]
	}
	n.touch(min(before, size), max(before, size))
}

func (n *node) touch(from, to int) {
	for at := from / sector; at*sector < to; at++ {
		n.dirty[at] = true
	}
}

func (d *Disk) snapshot(s Step) snapshot {
	n := d.node(s)
	if n.folder {
		entries := map[string]uint64{}
		for p, file := range d.seen {
			if path.Dir(p) == s.Path {
				entries[p] = file
			}
		}
		return snapshot{entries: entries}
	}
	shot := snapshot{size: len(n.data), sectors: map[int][]byte{}}
	for at := range n.dirty {
		if from := at * sector; from < len(n.data) {
			shot.sectors[at] = slices.Clone(n.data[from:min(from+sector, len(n.data))])
		}
	}
	n.dirty = map[int]bool{}
	return shot
}

// keep makes a snapshot durable.
func (d *Disk) keep(s Step) {
	n := d.node(s)
	shot, ok := n.begun[s.At]
	delete(n.begun, s.At)
	if !ok {
		return
	}
	if n.folder {
		maps.DeleteFunc(d.durable, func(p string, _ uint64) bool { return path.Dir(p) == s.Path })
		maps.Copy(d.durable, shot.entries)
		return
	}
	if shot.size < len(n.synced) {
		clear(n.synced[shot.size:])
		n.synced = n.synced[:shot.size]
	} else {
		n.synced = append(n.synced, make([]byte, shot.size-len(n.synced))...)
	}
	for at, b := range shot.sectors {
		copy(n.synced[at*sector:], b)
	}
}

// Lose writes to an empty folder what a loss of power could leave now: what is durable and, with a source of chance,
// each entry and each sector besides that was not made durable yet, or not.
func (d *Disk) Lose(r *rand.Rand, dir string) error {
	all := maps.Clone(d.durable)
	maps.Copy(all, d.seen)
	for _, p := range slices.Sorted(maps.Keys(all)) { // folders before what is in them
		file := d.durable[p]
		if d.seen[p] != file && r != nil && r.IntN(2) == 0 {
			file = d.seen[p]
		}
		n := d.nodes[file]
		if n == nil || file == 0 {
			continue // not there
		}
		target := filepath.Join(dir, filepath.FromSlash(p))
		var err error
		if n.folder {
			err = os.Mkdir(target, 0o700)
		} else {
			err = os.WriteFile(target, n.lose(r), 0o600)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) { // its folder was lost
			return err
		}
	}
	return nil
}

func (n *node) lose(r *rand.Rand) []byte {
	if r == nil || r.IntN(3) == 0 {
		return n.synced
	}
	size := len(n.data)
	if r.IntN(2) == 0 {
		size = len(n.synced)
	}
	out := make([]byte, size)
	copy(out, n.synced)
	for at := 0; at*sector < min(size, len(n.data)); at++ {
		if (n.dirty[at] || at*sector >= len(n.synced) || len(n.begun) > 0) && r.IntN(2) == 0 {
			copy(out[at*sector:], n.data[at*sector:min((at+1)*sector, len(n.data))])
		}
	}
	return out
}

// Files gives the contents of all files as programs see them, by path.
func (d *Disk) Files() map[string][]byte {
	out := map[string][]byte{}
	for p, file := range d.seen {
		if n := d.nodes[file]; !n.folder {
			out[p] = n.data
		}
	}
	return out
}
