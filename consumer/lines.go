package consumer

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// linesPerBatch is how many lines of a file travel together.
const linesPerBatch = 256

// ImportSummary is what became of the lines of an import.
type ImportSummary struct {
	Lines      int            `json:"lines"`
	Owned      int            `json:"owned"`      // new events, counted
	Duplicates int            `json:"duplicates"` // known before
	Expired    int            `json:"expired"`    // older than the archive's horizon
	Rejected   map[string]int `json:"rejected"`   // refused, by reason
}

// lineReader cuts a file into batches of lines. A line longer than the limit is passed over and told of.
type lineReader struct {
	name    string
	in      *bufio.Reader
	closers []io.Closer
	line    int // number of the last line read
	max     int
	tooLong func(line, size int)
}

// openLines opens a file of JSON lines: plain, .gz or .zst, "-" for in.
func openLines(path string, in io.Reader, maxBytes int) (*lineReader, error) {
	r := &lineReader{name: path, max: maxBytes}
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", path, unwrapPath(err))
		}
		r.closers = append(r.closers, f)
		in = f
	} else {
		r.name = "stdin"
	}
	switch {
	case strings.HasSuffix(path, ".gz"):
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), r.close())
		}
		r.closers, in = append(r.closers, z), z
	case strings.HasSuffix(path, ".zst"):
		z, err := zstd.NewReader(in, zstd.WithDecoderMaxMemory(256<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), r.close())
		}
		r.closers, in = append(r.closers, z.IOReadCloser()), z
	}
	r.in = bufio.NewReaderSize(in, 1<<20)
	return r, nil
}

func (r *lineReader) close() error {
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i].Close())
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
