package journal

import (
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
)

// disk is a file layer in memory that knows what a power loss would leave: file contents as of their last sync,
// folder entries as of the folder's last sync. fault, where set, is asked before each step.
type disk struct {
	mu      sync.Mutex
	entries map[string]*inode // what programs see
	durable map[string]*inode // what a power loss leaves
	fault   func(op, path string) fault
	steps   int
	onStep  func(op, path string) // after each step that changes something, under mu
}

const page = 512

type inode struct {
	data   []byte       // what programs see
	synced []byte       // what is on the medium
	dirty  map[int]bool // pages that the next sync writes
}

// fault is how a step goes wrong: with err, and a write after short bytes.
type fault struct {
	err   error
	short int
}

func newDisk() *disk { return &disk{entries: map[string]*inode{}, durable: map[string]*inode{}} }

func (d *disk) step(op, path string) fault {
	d.steps++
	if d.fault != nil {
		return d.fault(op, path)
	}
	return fault{}
}

func (d *disk) did(op, path string) {
	if d.onStep != nil {
		d.onStep(op, path)
	}
}

func (d *disk) MkdirAll(string) error { return nil }

func (d *disk) List(dir string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for p := range d.entries {
		if filepath.Dir(p) == dir {
			names = append(names, filepath.Base(p))
		}
	}
	return names, nil
}

func (d *disk) Open(path string, flag int) (File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.entries[path]
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	case n != nil && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrExist}
	case n == nil:
		if f := d.step("create", path); f.err != nil {
			return nil, f.err
		}
		n = &inode{dirty: map[int]bool{}}
		d.entries[path] = n
		d.did("create", path)
	}
	return &diskFile{d, n, path}, nil
}

func (d *disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.step("rename", to); f.err != nil {
		return f.err
	}
	d.entries[to] = d.entries[from]
	delete(d.entries, from)
	d.did("rename", to)
	return nil
}

func (d *disk) Remove(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.entries[path] == nil {
		return &fs.PathError{Op: "remove", Path: path, Err: fs.ErrNotExist}
	}
	if f := d.step("remove", path); f.err != nil {
		return f.err
	}
	delete(d.entries, path)
	d.did("remove", path)
	return nil
}

func (d *disk) SyncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.step("syncdir", dir); f.err != nil {
		return f.err
	}
	d.durable = maps.Clone(d.entries)
	d.did("syncdir", dir)
	return nil
}

// lose gives a disk as a power loss could leave it now: of what was not synced, each folder entry and each page of
// each file is there or not, by chance. Under mu.
func (d *disk) lose(r *rand.Rand) *disk {
	out := newDisk()
	kept := map[*inode]*inode{}
	keep := func(n *inode) *inode {
		if kept[n] == nil {
			data := append([]byte(nil), n.synced...)
			if r.IntN(3) > 0 { // else nothing more than what was synced
				size := len(n.data)
				if size < len(data) && r.IntN(2) == 0 {
					size = len(data)
				}
				mixed := make([]byte, size)
				copy(mixed, data)
				for at := 0; at < len(n.data); at += page {
					if r.IntN(2) == 0 {
						copy(mixed[at:], n.data[at:min(at+page, len(n.data))])
					}
				}
				data = mixed
			}
			kept[n] = &inode{data: data, synced: append([]byte(nil), data...), dirty: map[int]bool{}}
		}
		return kept[n]
	}
	names := maps.Clone(d.durable)
	maps.Copy(names, d.entries)
	for path := range names {
		n := d.durable[path]
		if d.entries[path] != n && r.IntN(2) == 0 {
			n = d.entries[path]
		}
		if n != nil {
			out.entries[path] = keep(n)
		}
	}
	out.durable = maps.Clone(out.entries)
	return out
}

type diskFile struct {
	d    *disk
	n    *inode
	path string
}

func (f *diskFile) Close() error { return nil }

func (f *diskFile) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.n.data)), nil
}

func (f *diskFile) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	bad := f.d.step("write", f.path)
	n := len(p)
	if bad.err != nil || bad.short > 0 {
		n = min(n, bad.short)
	}
	if grow := int(off) + n - len(f.n.data); grow > 0 {
		f.n.data = append(f.n.data, make([]byte, grow)...)
	}
	copy(f.n.data[off:], p[:n])
	for at := int(off) / page; at*page < int(off)+n; at++ {
		f.n.dirty[at] = true
	}
	f.d.did("write", f.path)
	return n, bad.err
}

func (f *diskFile) Truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if bad := f.d.step("truncate", f.path); bad.err != nil {
		return bad.err
	}
	f.n.data = f.n.data[:size:size]
	f.d.did("truncate", f.path)
	return nil
}

func (f *diskFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	dirty := f.n.dirty
	f.n.dirty = map[int]bool{}
	if bad := f.d.step("sync", f.path); bad.err != nil {
		return bad.err // as on Linux: the pages count as clean from now on, though they are not on the medium
	}
	synced := make([]byte, len(f.n.data))
	copy(synced, f.n.synced)
	for at := range dirty {
		if at*page < len(synced) {
			copy(synced[at*page:min(at*page+page, len(synced))], f.n.data[at*page:])
		}
	}
	f.n.synced = synced
	f.d.did("sync", f.path)
	return nil
}
