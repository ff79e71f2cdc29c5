package journal

import (
	"errors"
	"io"
	"os"
)

// Files is the file layer under the journal. Everything that must survive a power loss goes through it, so that tests
// can fail, delay and record each step. The zero choice in Options is the operating system.
type Files interface {
	MkdirAll(dir string) error                // mode 0700
	List(dir string) ([]string, error)        // names of the entries
	Open(path string, flag int) (File, error) // mode 0600 where it creates
	Rename(from, to string) error             // replaces what is at to
	Remove(path string) error                 // os.ErrNotExist where there is none
	SyncDir(dir string) error                 // makes creations, renames and removals in dir durable
}

// File is an open file of Files.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	Sync() error // data and length are durable when it returns nil; after an error their state is unknown
}

type osFiles struct{}

func (osFiles) MkdirAll(dir string) error    { return os.MkdirAll(dir, 0o700) }
func (osFiles) Rename(from, to string) error { return os.Rename(from, to) }
func (osFiles) Remove(path string) error     { return os.Remove(path) }

func (osFiles) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (osFiles) Open(path string, flag int) (File, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFiles) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) Sync() error { return dataSync(f.File) }

// writeWhole takes a short write for the failure that it is.
func writeWhole(f File, data []byte, at int64) error {
	n, err := f.WriteAt(data, at)
	if err == nil && n < len(data) {
		return io.ErrShortWrite
	}
	return err
}
