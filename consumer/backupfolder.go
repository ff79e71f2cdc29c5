package consumer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// backupFolderPrefix begins the names of the folders in which backups are put together, beside what they will be.
const backupFolderPrefix = ".statscache-backup-"

// backupFolder is where a backup is put together. A lock in it says that somebody does.
type backupFolder struct {
	path string
	lock *os.File
}

// newBackupFolder makes one, and removes those that backups left which were killed.
func newBackupFolder(beside string) (*backupFolder, error) {
	left, err := filepath.Glob(filepath.Join(beside, backupFolderPrefix+"*"))
	if err != nil {
		return nil, err
	}
	for _, path := range left {
		removeAbandoned(path)
	}
	path, err := os.MkdirTemp(beside, backupFolderPrefix)
	if err != nil {
		return nil, unwrapPath(err)
	}
	lock, err := lockBackupFolder(path)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	return &backupFolder{path, lock}, nil
}

func lockBackupFolder(path string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, unwrapPath(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return f, nil
}

// removeAbandoned removes a folder that nobody works in. What can't be looked into belongs to somebody else.
func removeAbandoned(path string) {
	if _, err := os.Stat(filepath.Join(path, "lock")); err != nil {
		return // it is being made, or its lock is not for us to see
	}
	f, err := lockBackupFolder(path)
	if err != nil {
		return
	}
	_ = os.RemoveAll(path) // what stays is tried again by the next backup
	_ = f.Close()          // nothing was written
}

// remove takes the folder away.
func (f *backupFolder) remove() error { return errors.Join(os.RemoveAll(f.path), f.lock.Close()) }
