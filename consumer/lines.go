package consumer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/statscache/statscache/consumer/control"
	"github.com/statscache/statscache/consumer/source/file"
	"github.com/statscache/statscache/internal/block"
)

// linesPerBatch and bytesPerBatch bound the lines of a file that travel together: such a batch fills a block.
const (
	linesPerBatch = block.MaxEvents
	bytesPerBatch = 2 << 20
)

// lineReader cuts a file into batches of messages: lines, or what stands in another form. A line longer than the limit is
// passed over and told of.
//
// It reads in a goroutine of its own: a pipe may be silent for ever, and whoever waits for its lines must still be able
// to go.
type lineReader struct {
	name    string
	max     int
	tooLong func(line, size int)
	bad     func(line int, reason, detail string) // of what is no message, in other forms than lines

	batches chan lineBatch
	quit    chan struct{}
	begin   sync.Once

	// For the reading goroutine.
	in    *bufio.Reader
	line  int         // number of the last line read
	room  int         // for the next batch, by the size of the last one
	other file.Reader // nil where the file holds lines
}

// lineBatch is some messages, the number of the first line, and why there are no more.
type lineBatch struct {
	first    int
	lines    []int // of each message, nil where they are first, first+1, ...
	messages [][][]byte
	err      error
}

// lineOf is the number of the line in which a message begins.
func (b *lineBatch) lineOf(i int) int {
	if b.lines == nil {
		return b.first + i
	}
	return b.lines[i]
}

func newLineReader(name string, in io.Reader, maxBytes int) *lineReader {
	return &lineReader{name: name, max: maxBytes, in: bufio.NewReaderSize(in, 1<<20), batches: make(chan lineBatch), quit: make(chan struct{})}
}

// stop ends the reading; a read that is under way ends by itself.
func (r *lineReader) stop() { close(r.quit) }

// next gives the following messages; empty lines are empty messages, so that numbers stay right. io.EOF after the last.
func (r *lineReader) next(ctx context.Context) (lineBatch, error) {
	r.begin.Do(func() { go r.read() })
	select {
	case b, ok := <-r.batches:
		if !ok {
			return lineBatch{first: r.line + 1}, io.EOF
		}
		return b, b.err
	case <-ctx.Done():
		return lineBatch{}, ctx.Err()
	}
}

// read hands batches over until the file ends or nobody wants more.
func (r *lineReader) read() {
	defer close(r.batches)
	form, err := file.Sniff(r.in)
	if form != file.Lines {
		r.other = file.New(form, r.in, r.max)
	}
	for {
		var b lineBatch
		switch {
		case err != nil: // it is nothing that can be read
			err = fmt.Errorf("%s can't be imported: %w", r.name, err)
		case r.other != nil:
			b, err = r.records()
		default:
			b, err = r.batch()
		}
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
func openFiles(take func() (path string, ok bool), stdin io.Reader) (next control.NextFile, done func() error) {
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
		if err := done(); err != nil {
			return "", nil, err
		}
		path, ok := take()
		if !ok {
			return "", nil, io.EOF
		}
		open, err = openFile(path, stdin)
		if err != nil {
			return "", nil, err
		}
		return open.name, open, nil
	}, done
}

// batch reads some lines. What stands before an error is whole and is given with it; a last line that an error tore is
// not.
func (r *lineReader) batch() (lineBatch, error) {
	out := lineBatch{first: r.line + 1}
	chunk := make([]byte, 0, r.room) // one allocation for the batch: its lines point into it
	var err error
	ends := make([]int, 0, linesPerBatch)
	for err == nil && len(ends) < linesPerBatch && len(chunk) < bytesPerBatch {
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
	r.room = min(len(chunk)+len(chunk)/8, bytesPerBatch)
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

// records reads some messages of a file in another form.
func (r *lineReader) records() (lineBatch, error) {
	out := lineBatch{first: r.line + 1}
	size := 0
	for len(out.messages) < linesPerBatch && size < bytesPerBatch {
		rec, err := r.other.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				err = fmt.Errorf("read %s: %w", r.name, err)
			}
			return out, err
		}
		r.line = rec.Line
		if rec.Reason != "" {
			if r.bad != nil {
				r.bad(rec.Line, rec.Reason, rec.Detail)
			}
			continue
		}
		out.lines, out.messages = append(out.lines, rec.Line), append(out.messages, [][]byte{rec.Envelope})
		size += len(rec.Envelope)
	}
	return out, nil
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
