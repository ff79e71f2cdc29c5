package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// maxSocketPath is what a unix socket's path may have: sun_path is 108 bytes with its NUL.
	maxSocketPath = 107
	socketName    = "control.sock"
)

// Path is where the socket of a data dir is.
func Path(dataDir string) string { return filepath.Join(dataDir, "run", socketName) }

// listen makes the socket, mode 0600 in a folder of mode 0700. The caller holds the data dir's lock, so that a socket
// that is there already was left behind by a daemon that was killed.
func listen(path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of the control socket: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil { // it may be older than we are
		return nil, fmt.Errorf("folder of the control socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the control socket that was left behind: %w", err)
	}
	short, done, err := shorten(path)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, bare(err))
	}
	l.SetUnlinkOnClose(false) // by then the short path leads nowhere
	s := &socket{l, path}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("control socket: %w", err), s.Close())
	}
	return s, nil
}

// socket is a listener that removes its file and hears nobody but its own user and root.
type socket struct {
	*net.UnixListener
	path string
}

// Accept waits for the next connection of the same user.
func (s *socket) Accept() (net.Conn, error) {
	for {
		c, err := s.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if sameUser(c) {
			return c, nil
		}
		_ = c.Close() // nothing was said
	}
}

// Close ends the listening and removes the socket.
func (s *socket) Close() error {
	err := s.UnixListener.Close()
	if gone := os.Remove(s.path); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// sameUser asks the kernel who is at the other end: the folder's mode keeps others out already, unless somebody
// changed it.
func sameUser(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		ok = err == nil && (cred.Uid == uint32(os.Geteuid()) || cred.Uid == 0)
	})
	return err == nil && ok
}

// dial connects to the socket at a path.
func dial(ctx context.Context, path string) (net.Conn, error) {
	short, done, err := shorten(path)
	if err != nil {
		return nil, err
	}
	defer done()
	c, err := new(net.Dialer).DialContext(ctx, "unix", short)
	if err != nil {
		return nil, bare(err)
	}
	return c, nil
}

// shorten gives a path for the kernel: where ours is too long for a socket's, one through the open folder. done
// releases it after use.
func shorten(path string) (short string, done func(), err error) {
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() { _ = dir.Close() }, nil
}

// bare leaves out of a network error what our own sentence says already.
func bare(err error) error {
	var oe *net.OpError
	if errors.As(err, &oe) {
		return oe.Err
	}
	return err
}
