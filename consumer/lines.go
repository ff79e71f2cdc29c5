package consumer

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/statscache/statscache/consumer/control"
)

// linesPerBatch is how many lines of a file travel together.
const linesPerBatch = 256

// lineReader cuts a file into batches of lines. A line longer than the limit is passed over and told of.
//
// It reads in a goroutine of its own: a pipe may be silent for ever, and whoever waits for its lines must still be able
// to go.
type lineReader struct {
	name    string
	max     int
	tooLong func(line, size int)

	batches chan lineBatch
	quit    chan struct{}
	begin   sync.Once

	// For the reading goroutine.
	in   *bufio.Reader
	line int // number of the last line read
}

// lineBatch is some lines, the number of the first, and why there are no more.
type lineBatch struct {
	first    int
	messages [][][]byte
	err      error
}

func newLineReader(name string, in io.Reader, maxBytes int) *lineReader {
	return &lineReader{name: name, max: maxBytes, in: bufio.NewReaderSize(in, 1<<20), batches: make(chan lineBatch), quit: make(chan struct{})}
}

// stop ends the reading; a read that is under way ends by itself.
func (r *lineReader) stop() { close(r.quit) }

// next gives the following lines and the number of the first; empty lines are empty messages, so that numbers stay
// right. io.EOF after the last.
func (r *lineReader) next(ctx context.Context) (first int, messages [][][]byte, err error) {
	r.begin.Do(func() { go r.read() })
	select {
	case b, ok := <-r.batches:
		if !ok {
			return r.line + 1, nil, io.EOF
		}
		return b.first, b.messages, b.err
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	}
}

// read hands batches over until the file ends or nobody wants more.
func (r *lineReader) read() {
	defer close(r.batches)
	for {
		b, err := r.batch()
		for _, part := range []lineBatch{b, {first: r.line + 1, err: err}} {
			if len(part.messages) == 0 && (part.err == nil || errors.Is(part.err, io.EOF)) {
				continue
			}
			select {
			case r.batches <- part:
			case <-r.quit:
				return
			}
		}
		if err != nil {
			return
		}
	}
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

// batch reads some lines. What stands before an error is whole and is given with it; a last line that an error tore is
// not.
func (r *lineReader) batch() (lineBatch, error) {
	out := lineBatch{first: r.line + 1}
	var chunk []byte // one allocation for the batch: its lines point into it
	var err error
	ends := make([]int, 0, linesPerBatch)
	for err == nil && len(ends) < linesPerBatch && len(chunk) < 1<<20 {
		from := len(chunk)
		chunk, err = r.readLine(chunk)
		if len(chunk) == from || err != nil && !errors.Is(err, io.EOF) {
			break
		}
		r.line++
		ends = append(ends, len(chunk))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read %s after line %d: %w", r.name, r.line, err)
	}
	out.messages = make([][][]byte, len(ends))
	frames := make([][]byte, len(ends))
	from := 0
	for i, to := range ends {
		frames[i] = bytes.TrimSpace(chunk[from:to])
		out.messages[i] = frames[i : i+1 : i+1]
		from = to
	}
	return out, err
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
