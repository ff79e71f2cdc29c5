package consumer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrLocked is what opening a data dir answers while another process works in it.
var ErrLocked = errors.New("data dir in use")

const (
	lockTries = 10
	lockPause = 20 * time.Millisecond
)

// dirLock holds a data dir for one process.
type dirLock struct{ f *os.File }

// lockDir makes the data dir where it isn't there and takes its lock. The kernel gives the lock back when the process
// ends, however it ends; the file with the pid inside stays.
func lockDir(dir string) (*dirLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data dir %s can't be made: %w", dir, unwrapPath(err))
	}
	if err := whole(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data dir %s is not writable: %w", dir, unwrapPath(err))
	}
	if err := takeLock(f); err != nil {
		pid := lockPID(f)
		_ = f.Close() // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s belongs to the statscache with pid %s; stop it first, or choose another data dir", ErrLocked, dir, pid)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		_ = f.Close() // the lock goes with it
		return nil, fmt.Errorf("write %s: %w", path, unwrapPath(err))
	}
	return &dirLock{f}, nil
}

// takeLock tries for a moment: whoever only asks whether a daemon runs holds the lock that long.
func takeLock(f *os.File) error {
	for try := 0; ; try++ {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || try == lockTries {
			return err
		}
		time.Sleep(lockPause)
	}
}

func lockPID(f *os.File) string {
	buf := make([]byte, 32)
	n, _ := f.ReadAt(buf, 0)
	if pid := strings.TrimSpace(string(buf[:n])); pid != "" {
		return pid
	}
	return "unknown"
}

// unwrapPath leaves the path out of an error whose sentence names it already.
func unwrapPath(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// release gives the data dir back.
func (l *dirLock) release() error { return l.f.Close() }

// Running says whether a process works in a data dir.
func Running(dir string) (bool, error) {
	f, err := os.Open(filepath.Join(dir, "lock"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("data dir %s: %w", dir, unwrapPath(err))
	}
	defer func() { _ = f.Close() }() // nothing was written; a lock taken here goes with it
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the lock of %s: %w", dir, err)
	}
	return false, nil
}
