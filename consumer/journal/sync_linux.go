package journal

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// dataSync leaves out the times of the file, which fsync would write as well; the length is included.
func dataSync(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var syncErr error
	err = raw.Control(func(fd uintptr) {
		for {
			if syncErr = unix.Fdatasync(int(fd)); !errors.Is(syncErr, unix.EINTR) {
				return
			}
		}
	})
	return os.NewSyscallError("fdatasync", errors.Join(err, syncErr))
}
