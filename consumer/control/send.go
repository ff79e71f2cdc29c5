package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"sync/atomic"
)

// sendBuffer is what a client reads of a file at once.
const sendBuffer = 1 << 20

// errDone ends the sending when the daemon has told the end before it had everything.
var errDone = errors.New("the daemon wants no more")

// Import sends files to the daemon, line by line as they stand there, and returns when it says that it is done. After
// an error the summary holds the lines that the daemon is known to have read.
func (c *Client) Import(ctx context.Context, next NextFile, o ImportOptions) (ImportSummary, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	read, write := io.Pipe()
	// The transport waits for the body's end before it says that a request was given up.
	defer context.AfterFunc(ctx, func() { _ = read.CloseWithError(errDone) })()
	out := newSender(write)
	go out.all(ctx, next)
	sum, err := c.receive(ctx, "/import"+query(o), read, out.form.FormDataContentType(), o)
	cancel()
	_ = read.CloseWithError(errDone)
	// A file that could not be read is why the daemon was told to stop.
	if local := out.local.Load(); err != nil && local != nil {
		err = *local
	}
	return sum, err
}

func query(o ImportOptions) string {
	if o.NoWait {
		return "?no-wait"
	}
	return ""
}

// receive posts the body and follows the events.
func (c *Client) receive(ctx context.Context, path string, body io.Reader, contentType string, o ImportOptions) (sum ImportSummary, err error) {
	resp, err := c.do(ctx, http.MethodPost, path, body, contentType)
	if err != nil {
		return sum, err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	if resp.StatusCode != http.StatusOK {
		return sum, refused(resp)
	}
	end, err := readEvents(resp.Body, func(e Event) {
		switch {
		case e.Bad != nil && o.Bad != nil:
			o.Bad(*e.Bad)
		case e.Lines > 0:
			sum.Lines = e.Lines
			if o.Progress != nil {
				o.Progress(e.Lines)
			}
		}
	})
	switch {
	case ctx.Err() != nil:
		return sum, ctx.Err()
	case err != nil:
		return sum, fmt.Errorf("the daemon went away after %d lines; run the import again when it is back: what is in already is not counted twice (%w)", sum.Lines, err)
	case end.Error != "":
		return sum, fmt.Errorf("the daemon stopped after %d lines: %s", sum.Lines, end.Error)
	}
	return *end.Summary, nil
}

// sender writes files as parts of a body.
type sender struct {
	pipe  *io.PipeWriter
	out   *bufio.Writer
	form  *multipart.Writer
	local atomic.Pointer[error] // why a file can't be read
}

func newSender(pipe *io.PipeWriter) *sender {
	s := &sender{pipe: pipe, out: bufio.NewWriterSize(pipe, 64<<10)}
	s.form = multipart.NewWriter(s.out)
	return s
}

// all writes one part per file and ends the body.
func (s *sender) all(ctx context.Context, next NextFile) {
	for {
		more, err := s.file(ctx, next)
		if err == nil && more {
			continue
		}
		if err == nil {
			err = errors.Join(s.form.Close(), s.out.Flush())
		}
		_ = s.pipe.CloseWithError(err) // nil: the end
		return
	}
}

// file writes the next part. That a file can't be read is told to the daemon, so that it ends the import after all that
// came before.
func (s *sender) file(ctx context.Context, next NextFile) (more bool, err error) {
	name, r, local := next()
	if errors.Is(local, io.EOF) {
		_, err = s.form.CreatePart(textproto.MIMEHeader{endHeader: {"1"}})
		return false, err
	}
	if local == nil {
		part, err := s.form.CreatePart(textproto.MIMEHeader{fileHeader: {url.PathEscape(name)}})
		if err != nil {
			return false, err
		}
		if local, err = s.lines(ctx, part, name, r); err != nil || local == nil {
			return true, err
		}
	}
	s.local.Store(&local)
	_, err = s.form.CreatePart(textproto.MIMEHeader{abortHeader: {"1"}})
	return false, err
}

// lines copies a file. Of a line at whose middle the file can't be read on nothing is sent, unless it is longer than
// the buffer. What there is goes out before it waits for more.
func (s *sender) lines(ctx context.Context, to io.Writer, name string, from io.Reader) (local, err error) {
	in := bufio.NewReaderSize(flushing{from, s.out}, sendBuffer)
	for line := 0; ctx.Err() == nil; {
		piece, rerr := in.ReadSlice('\n')
		broken := rerr != nil && !errors.Is(rerr, bufio.ErrBufferFull)
		if rerr == nil || (broken && len(piece) > 0) {
			line++
		}
		if broken && !errors.Is(rerr, io.EOF) {
			return fmt.Errorf("read %s after line %d: %w", name, line, rerr), nil
		}
		if _, err := to.Write(piece); err != nil {
			return nil, err
		}
		if broken {
			return nil, nil
		}
	}
	return nil, ctx.Err()
}

// flushing sends what there is before it reads more: that may take long.
type flushing struct {
	from io.Reader
	out  *bufio.Writer
}

func (f flushing) Read(p []byte) (int, error) {
	if err := f.out.Flush(); err != nil {
		return 0, io.EOF // the next write fails, too, and is the one to tell
	}
	return f.from.Read(p)
}
