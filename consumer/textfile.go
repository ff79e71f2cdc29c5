package consumer

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// textFile is a file of lines as they are to be read.
type textFile struct {
	io.Reader
	name    string
	closers []io.Closer
}

// openFile opens a file of lines, "-" for in: plain, or compressed by gzip or zstd, whatever its name says. Nothing is
// read yet.
func openFile(path string, in io.Reader) (*textFile, error) {
	f := &textFile{name: "stdin"}
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", path, unwrapPath(err))
		}
		in, f.name, f.closers = file, path, append(f.closers, file)
	}
	u := &unpacker{in: bufio.NewReaderSize(in, 64<<10)}
	f.Reader, f.closers = u, append(f.closers, u)
	return f, nil
}

func (f *textFile) close() error {
	var errs []error
	for i := len(f.closers) - 1; i >= 0; i-- {
		errs = append(errs, f.closers[i].Close())
	}
	return errors.Join(errs...)
}

// unpacker looks at the first bytes at the first read, not before: a pipe may be silent for long.
type unpacker struct {
	in  *bufio.Reader
	mu  sync.Mutex // guards out against a Close meanwhile
	out io.Reader  // nil before the first read

	begun bool
}

func (u *unpacker) Read(p []byte) (int, error) {
	if !u.begun { // only this goroutine changes it
		out, err := unpack(u.in)
		if err != nil {
			return 0, err
		}
		u.mu.Lock()
		u.out, u.begun = out, true
		u.mu.Unlock()
	}
	return u.out.Read(p)
}

// unpack chooses by what compressed files begin with, and no JSON does.
func unpack(in *bufio.Reader) (io.Reader, error) {
	head, err := in.Peek(4)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(in)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(in, zstd.WithDecoderMaxMemory(256<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return in, nil
}

// Close ends the unpacking. The file below has a closer of its own.
func (u *unpacker) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if c, ok := u.out.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
