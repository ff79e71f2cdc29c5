package consumer

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/statscache/statscache/consumer/control"
)

// linesPerBatch is how many lines of a file travel together.
const linesPerBatch = 256

// lineReader cuts a file into batches of lines. A line longer than the limit is passed over and told of.
type lineReader struct {
	name    string
	in      *bufio.Reader
	line    int // number of the last line read
	max     int
	tooLong func(line, size int)
}

func newLineReader(name string, in io.Reader, maxBytes int) *lineReader {
	return &lineReader{name: name, max: maxBytes, in: bufio.NewReaderSize(in, 1<<20)}
}

// openFiles gives one file after the other, each closed when the next one is opened; done closes the last.
func openFiles(paths []string, stdin io.Reader) (next control.NextFile, done func() error) {
	var open *textFile
	done = func() error {
		if open == nil {
			return nil
		}
		f := open
		open = nil
		return f.close()
	}
	return func() (name string, r io.Reader, err error) {
		if err := done(); err != nil || len(paths) == 0 {
			return "", nil, cmp.Or(err, io.EOF)
		}
		open, err = openFile(paths[0], stdin)
		if err != nil {
			return "", nil, err
		}
		paths = paths[1:]
		return open.name, open, nil
	}, done
}

// textFile is a file of lines as they are to be read.
type textFile struct {
	io.Reader
	name    string
	closers []io.Closer
}

// openFile opens a file of lines: plain, .gz or .zst, "-" for in.
func openFile(path string, in io.Reader) (*textFile, error) {
	f := &textFile{Reader: in, name: "stdin"}
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", path, unwrapPath(err))
		}
		f.name, f.Reader, f.closers = path, file, append(f.closers, file)
	}
	switch {
	case strings.HasSuffix(path, ".gz"):
		z, err := gzip.NewReader(f.Reader)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), f.close())
		}
		f.closers, f.Reader = append(f.closers, z), z
	case strings.HasSuffix(path, ".zst"):
		z, err := zstd.NewReader(f.Reader, zstd.WithDecoderMaxMemory(256<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), f.close())
		}
		f.closers, f.Reader = append(f.closers, z.IOReadCloser()), z
	}
	return f, nil
}

func (f *textFile) close() error {
	var errs []error
	for i := len(f.closers) - 1; i >= 0; i-- {
		errs = append(errs, f.closers[i].Close())
	}
	return errors.Join(errs...)
}

// next gives the following lines and the number of the first; empty lines are empty messages, so that numbers stay
// right. io.EOF after the last.
func (r *lineReader) next(ctx context.Context) (first int, messages [][][]byte, err error) {
	first = r.line + 1
	var chunk []byte // one allocation for the batch: its lines point into it
	ends := make([]int, 0, linesPerBatch)
	for len(ends) < linesPerBatch && len(chunk) < 1<<20 && ctx.Err() == nil {
		from := len(chunk)
		chunk, err = r.readLine(chunk)
		if err != nil && len(chunk) == from {
			break
		}
		r.line++
		ends = append(ends, len(chunk))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return first, nil, fmt.Errorf("read %s after line %d: %w", r.name, r.line, err)
	}
	if ctx.Err() != nil {
		return first, nil, ctx.Err()
	}
	if len(ends) == 0 {
		return first, nil, io.EOF
	}
	messages = make([][][]byte, len(ends))
	frames := make([][]byte, len(ends))
	from := 0
	for i, to := range ends {
		frames[i] = bytes.TrimSpace(chunk[from:to])
		messages[i] = frames[i : i+1 : i+1]
		from = to
	}
	return first, messages, nil
}

// readLine appends the next line. Of one that is too long it appends nothing: that is an empty line to the caller.
func (r *lineReader) readLine(dst []byte) ([]byte, error) {
	from, size := len(dst), 0
	for {
		piece, err := r.in.ReadSlice('\n')
		size += len(piece)
		if size <= r.max+2 {
			dst = append(dst, piece...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if size > r.max+2 {
			if r.tooLong != nil {
				r.tooLong(r.line+1, size)
			}
			return append(dst[:from], '\n'), nil
		}
		return dst, err
	}
}
