package host

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// maxSocketPath is what a unix socket's path may have: sun_path is 108 bytes with its NUL.
	maxSocketPath = 107
	// socketTail is what go-plugin appends to a session's folder at most: /plugin-dir4294967295/plugin4294967295.
	socketTail = 40
	// sessionTail is our own part: /plugins-4294967295/4294967295.
	sessionTail = 32
	homePrefix  = "plugins-"
	lockName    = "lock"
)

// home is this host's own folder for sockets. It is locked while the host lives, so that the next one knows which
// folders were left behind by a host that was killed.
type home struct {
	dir   string
	short string // the folder below the temporary one that was made for it; empty for none
	lock  *os.File
}

// openHome makes a home below dir and removes the homes of hosts that are gone. Where dir is too long for a socket's
// path it takes a folder below the system's temporary one instead, always the same for the same dir.
func openHome(dir string) (*home, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("run directory %s: %w", dir, err)
	}
	short := ""
	if len(dir)+sessionTail+socketTail > maxSocketPath {
		if short, err = shortDir(dir); err != nil {
			return nil, err
		}
		dir = short
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	if err := sweep(dir); err != nil {
		return nil, err
	}
	for range 10 { // another host's sweep may take the folder before it is locked
		h, err := newHome(dir)
		if err != nil {
			return nil, err
		}
		if h != nil {
			h.short = short
			return h, nil
		}
	}
	return nil, fmt.Errorf("run directory %s: could not make a folder of our own", dir)
}

// shortDir gives a folder with a short path that belongs to us alone.
func shortDir(dir string) (string, error) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(dir))
	short := filepath.Join(os.TempDir(), "statscache-"+strconv.Itoa(os.Getuid())+"-"+strconv.FormatUint(h.Sum64()>>32, 36))
	if len(short)+sessionTail+socketTail > maxSocketPath {
		short = filepath.Join("/tmp", filepath.Base(short))
	}
	if err := os.Mkdir(short, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("short run directory: %w", err)
	}
	// Anyone may make a folder of this name in a shared temporary one before us.
	var st unix.Stat_t
	if err := unix.Lstat(short, &st); err != nil {
		return "", fmt.Errorf("short run directory %s: %w", short, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != uint32(os.Getuid()) || st.Mode&0o077 != 0 {
		return "", fmt.Errorf("short run directory %s belongs to somebody else or is open to others", short)
	}
	return short, nil
}

// newHome gives nil where the folder was swept away meanwhile.
func newHome(dir string) (*home, error) {
	own, err := os.MkdirTemp(dir, homePrefix)
	if err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	path := filepath.Join(own, lockName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, nil
	}
	if _, err := os.Lstat(path); err != nil {
		_ = f.Close()
		return nil, nil
	}
	return &home{dir: own, lock: f}, nil
}

// sweep removes the homes that nobody holds.
func sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), homePrefix) {
			continue
		}
		old := filepath.Join(dir, e.Name())
		f, err := os.OpenFile(filepath.Join(old, lockName), os.O_RDWR, 0)
		if err == nil {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
			if err != nil {
				_ = f.Close()
				continue // its host lives
			}
		}
		_ = os.RemoveAll(old)
		if f != nil {
			_ = f.Close()
		}
	}
	return nil
}

// session makes a folder for one plugin process.
func (h *home) session(n uint32) (string, error) {
	dir := filepath.Join(h.dir, strconv.FormatUint(uint64(n), 10))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("socket folder: %w", err)
	}
	return dir, nil
}

// close removes the home and all in it.
func (h *home) close() error {
	err := os.RemoveAll(h.dir)
	if h.short != "" {
		_ = os.Remove(h.short) // fails where another host uses it
	}
	return errors.Join(err, h.lock.Close())
}
