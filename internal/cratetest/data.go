package cratetest

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	memoryFolder = "/dev/shm"
	memoryRoom   = 4 << 30 // bytes that must be free there; the tests' databases have some hundred megabytes
)

// small says that nodes are for tests, not to be measured: nobody says how large their heap is.
func small() bool { return os.Getenv(heapEnv) == "" }

// dataFolder makes a folder for the data of a node: in memory where there is room for it, since what these tests do to a
// node is to kill it, which loses nothing there either, and with a disk it would wait for its syncs for most of the time.
func dataFolder(dir string) (string, error) {
	var s unix.Statfs_t
	if small() && unix.Statfs(memoryFolder, &s) == nil && s.Type == unix.TMPFS_MAGIC && s.Bavail*uint64(s.Bsize) >= memoryRoom {
		if folder, err := os.MkdirTemp(memoryFolder, "statscache-crate-"); err == nil {
			return folder, nil
		}
	}
	folder := filepath.Join(dir, "data")
	return folder, os.MkdirAll(folder, 0o755)
}
