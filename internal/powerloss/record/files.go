//go:build linux && (amd64 || arm64)

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/statscache/statscache/internal/powerloss"
)

// file is a file or folder below the recorded one.
type file struct {
	no     uint64
	path   string // of a folder: these are not renamed
	folder bool
}

// files knows what the process has open.
type files struct {
	root   string
	pid    int
	out    *os.File
	last   uint64
	byPath map[string]*file // relative to root; root itself is "."
	open   map[uint64]*file
}

func newFiles(root string, pid int, out *os.File) *files {
	return &files{root: root, pid: pid, out: out, byPath: map[string]*file{".": {path: ".", folder: true}}, open: map[uint64]*file{}}
}

// call is a system call under way that matters here.
type call struct {
	nr       uint64
	args     [6]uint64
	file     *file
	from, to string // relative paths
}

// Calls that change files in ways that are not followed, and the argument that is the file's descriptor.
var unknown = map[uint64]int{ // never changed
	unix.SYS_WRITEV: 0, unix.SYS_PWRITEV: 0, unix.SYS_PWRITEV2: 0, unix.SYS_FALLOCATE: 0, unix.SYS_SENDFILE: 0,
	unix.SYS_COPY_FILE_RANGE: 2, unix.SYS_DUP: 0, unix.SYS_DUP3: 0, unix.SYS_SPLICE: 2,
}

// enter looks at a call before it is done, nil where it does not matter.
func (f *files) enter(tid int, nr uint64, args [6]uint64) (*call, error) {
	nr, args = modern(nr, args)
	c := &call{nr: nr, args: args}
	switch nr {
	case unix.SYS_CLOSE: // at once: the number may be given out again before the answer is seen
		delete(f.open, args[0])
		return nil, nil
	case unix.SYS_OPENAT:
		return c, nil
	case unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_FTRUNCATE:
		c.file = f.open[args[0]]
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		if c.file = f.open[args[0]]; c.file != nil {
			return c, f.sync(powerloss.SyncBegin, tid, c.file)
		}
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
		c.from, c.to = f.path(args[0], args[1]), f.path(args[2], args[3])
	case unix.SYS_UNLINKAT, unix.SYS_MKDIRAT:
		c.from = f.path(args[0], args[1])
	case unix.SYS_MMAP:
		mapped := f.open[args[4]]
		if mapped != nil && args[3]&unix.MAP_SHARED != 0 && args[2]&unix.PROT_WRITE != 0 {
			return nil, f.record(powerloss.Step{Op: powerloss.Unknown, Path: mapped.path, Data: []byte("mmap")})
		}
	default:
		if fd, ok := unknown[nr]; ok && f.open[args[fd]] != nil {
			return nil, f.record(powerloss.Step{Op: powerloss.Unknown, Path: f.open[args[fd]].path, Data: fmt.Append(nil, "system call ", nr)})
		}
	}
	if c.file == nil && c.from == "" && c.to == "" {
		return nil, nil
	}
	return c, nil
}

// leave records what a call has done.
func (f *files) leave(tid int, c *call, result int64) error {
	switch c.nr {
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		if result < 0 {
			return f.sync(powerloss.SyncFail, tid, c.file)
		}
		return f.sync(powerloss.SyncEnd, tid, c.file)
	}
	if result < 0 {
		return nil
	}
	switch c.nr {
	case unix.SYS_OPENAT:
		return f.opened(uint64(result), c.args[2])
	case unix.SYS_WRITE, unix.SYS_PWRITE64:
		return f.written(c, result)
	case unix.SYS_FTRUNCATE:
		return f.record(powerloss.Step{Op: powerloss.Truncate, File: c.file.no, At: int64(c.args[1])})
	case unix.SYS_MKDIRAT:
		f.last++
		f.byPath[c.from] = &file{f.last, c.from, true}
		return f.record(powerloss.Step{Op: powerloss.Mkdir, File: f.last, Path: c.from})
	case unix.SYS_UNLINKAT:
		if f.byPath[c.from] == nil {
			return nil // a socket
		}
		delete(f.byPath, c.from)
		return f.record(powerloss.Step{Op: powerloss.Remove, Path: c.from})
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
		moved := f.byPath[c.from]
		if moved == nil || c.to == "" || moved.folder {
			return f.record(powerloss.Step{Op: powerloss.Unknown, Path: c.from, Data: []byte("a rename to " + c.to)})
		}
		f.byPath[c.to] = moved
		delete(f.byPath, c.from)
		return f.record(powerloss.Step{Op: powerloss.Rename, Path: c.from, Data: []byte(c.to)})
	}
	return nil
}

func (f *files) sync(op powerloss.Op, tid int, x *file) error {
	return f.record(powerloss.Step{Op: op, File: x.no, At: int64(tid), Path: x.path})
}

// opened remembers a new descriptor.
func (f *files) opened(fd, flags uint64) error {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", f.pid, fd))
	if err != nil {
		return fmt.Errorf("look at a descriptor: %w", err)
	}
	delete(f.open, fd)
	path = f.relative(path)
	if path == "" {
		return nil
	}
	x := f.byPath[path]
	if x == nil {
		f.last++
		x = &file{no: f.last, path: path}
		f.byPath[path] = x
		if err := f.record(powerloss.Step{Op: powerloss.Create, File: x.no, Path: path}); err != nil {
			return err
		}
	}
	f.open[fd] = x
	if flags&unix.O_TRUNC != 0 {
		return f.record(powerloss.Step{Op: powerloss.Truncate, File: x.no})
	}
	return nil
}

func (f *files) written(c *call, n int64) error {
	at := int64(c.args[3])
	if c.nr == unix.SYS_WRITE {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", f.pid, c.args[0]))
		if err != nil {
			return fmt.Errorf("look at a descriptor: %w", err)
		}
		if _, err := fmt.Sscanf(string(text), "pos: %d", &at); err != nil {
			return fmt.Errorf("position of a descriptor: %w", err)
		}
		at -= n
	}
	data := make([]byte, n)
	if err := f.memory(data, c.args[1]); err != nil {
		return err
	}
	return f.record(powerloss.Step{Op: powerloss.Write, File: c.file.no, At: at, Data: data})
}

func (f *files) memory(b []byte, at uint64) error {
	if len(b) == 0 {
		return nil
	}
	local, remote := []unix.Iovec{{Base: &b[0]}}, []unix.RemoteIovec{{Base: uintptr(at), Len: len(b)}}
	local[0].SetLen(len(b))
	n, err := unix.ProcessVMReadv(f.pid, local, remote, 0)
	if err == nil && n < len(b) {
		err = fmt.Errorf("%d of %d bytes", n, len(b))
	}
	if err != nil {
		return fmt.Errorf("read memory: %w", err)
	}
	return nil
}

// path reads a path argument and gives it relative to the root, empty where it is elsewhere.
func (f *files) path(dir, at uint64) string {
	var name []byte
	for b := make([]byte, 64); ; at += uint64(len(b)) { // no further than it goes, lest the next page isn't there
		if f.memory(b, at) != nil {
			b = b[:1]
			if f.memory(b, at) != nil {
				return ""
			}
		}
		end := bytes.IndexByte(b, 0)
		if end >= 0 {
			name = append(name, b[:end]...)
			break
		}
		if name = append(name, b...); len(name) > unix.PathMax {
			return ""
		}
	}
	path := string(name)
	if !filepath.IsAbs(path) {
		link := fmt.Sprintf("/proc/%d/cwd", f.pid)
		if int32(dir) != unix.AT_FDCWD {
			link = fmt.Sprintf("/proc/%d/fd/%d", f.pid, dir)
		}
		base, err := os.Readlink(link)
		if err != nil {
			return ""
		}
		path = filepath.Join(base, path)
	}
	return f.relative(path)
}

// relative gives a path below the root, empty for others and for the memory that SQLite's processes share.
func (f *files) relative(path string) string {
	path, err := filepath.Rel(f.root, path)
	if err != nil || path == ".." || strings.HasPrefix(path, "../") || strings.HasSuffix(path, "-shm") || strings.HasSuffix(path, " (deleted)") {
		return ""
	}
	return path
}

func (f *files) record(s powerloss.Step) error { return powerloss.Append(f.out, s) }
