package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// A recount and a repair are one POST of a JSON object each. The answer is a line of JSON per workEvent, written
// meanwhile; the last one is the result or the error.

const (
	// maxWorkRequest bounds the body of a request for work, in bytes.
	maxWorkRequest = 1 << 20
	// workPulse is how often a client is told how far its work is, or only that it goes on.
	workPulse = time.Second / 5
)

// RecountRequest says what to count anew.
type RecountRequest struct {
	Metrics     []string `json:"metrics"`
	LoseExpired bool     `json:"lose_expired"` // also where events are gone: what they counted goes too
}

// Recounted is a plugin whose metrics were counted anew.
type Recounted struct {
	Plugin     string   `json:"plugin"`
	Metrics    []string `json:"metrics"` // all of the plugin's: they are counted together
	Generation uint32   `json:"generation"`
}

// RepairRequest says what to verify and mend; zero values stand for everything.
type RepairRequest struct {
	Metrics []string  `json:"metrics"`
	From    time.Time `json:"from"` // buckets that start in [From, To)
	To      time.Time `json:"to"`
}

// VerifyReport is what a comparison with the archive came to.
type VerifyReport struct {
	Metrics       int      `json:"metrics"`
	Rows          int      `json:"rows"` // stored ones that were compared
	Differences   int      `json:"differences"`
	NotVerifiable int      `json:"not_verifiable"` // stored rows whose events or plugin are gone
	Found         []string `json:"found"`          // the first differences and what could not be verified, one sentence each
	Mended        int      `json:"mended"`         // differences that were there before; the others are counted after the repair
	Changed       []string `json:"changed"`        // the first of those mended, one sentence each
}

// Worker is a Daemon that can count anew and mend. Progress is called from one goroutine at a time and must not block.
type Worker interface {
	Recount(ctx context.Context, r RecountRequest, progress func(done, total int)) ([]Recounted, error)
	Repair(ctx context.Context, r RepairRequest, progress func(rows int)) (VerifyReport, error)
}

// workEvent is what a piece of work tells of itself.
type workEvent struct {
	Done   int64           `json:"done,omitempty"`
	Total  int64           `json:"total,omitempty"`  // 0 where it is not known
	Result json.RawMessage `json:"result,omitempty"` // the end
	Error  string          `json:"error,omitempty"`  // the end
}

func (s *Server) recount(d Worker) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		var r RecountRequest
		s.work(w, req, &r, func(ctx context.Context, tell func(done, total int)) (any, error) { return d.Recount(ctx, r, tell) })
	}
}

func (s *Server) repair(d Worker) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		var r RepairRequest
		s.work(w, req, &r, func(ctx context.Context, tell func(done, total int)) (any, error) {
			return d.Repair(ctx, r, func(rows int) { tell(rows, 0) })
		})
	}
}

// work reads a request, has it done and tells of it meanwhile. A client that goes away ends it.
func (s *Server) work(w http.ResponseWriter, req *http.Request, into any, do func(context.Context, func(done, total int)) (any, error)) {
	text, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxWorkRequest))
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		answer(w, http.StatusBadRequest, Event{Error: "request: " + err.Error()})
		return
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	defer cancel(nil)
	var done, total atomic.Int64
	end := make(chan workEvent, 1)
	go func() {
		out, err := do(ctx, func(d, t int) { done.Store(int64(d)); total.Store(int64(t)) })
		var e workEvent
		if err == nil {
			e.Result, err = json.Marshal(out)
		}
		if err != nil {
			e.Error = s.why(ctx, err).Error()
		}
		end <- e
	}()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	rc, enc := http.NewResponseController(w), json.NewEncoder(w)
	tell := func(e workEvent) {
		err := rc.SetWriteDeadline(time.Now().Add(writeTimeout))
		if err == nil {
			err = enc.Encode(e)
		}
		if err == nil {
			err = rc.Flush()
		}
		if err != nil {
			cancel(errUnread)
		}
	}
	tick := time.NewTicker(workPulse)
	defer tick.Stop()
	for {
		select {
		case e := <-end:
			tell(e)
			return
		case <-tick.C:
			tell(workEvent{Done: done.Load(), Total: total.Load()})
		}
	}
}

// Recount has the daemon count metrics anew. A client that goes away leaves it to the daemon to go on with what was begun.
func (c *Client) Recount(ctx context.Context, r RecountRequest, progress func(done, total int)) (out []Recounted, err error) {
	err = c.work(ctx, "/recount", r, progress, &out)
	return out, err
}

// Repair has the daemon verify and mend.
func (c *Client) Repair(ctx context.Context, r RepairRequest, progress func(rows int)) (out VerifyReport, err error) {
	err = c.work(ctx, "/repair", r, func(done, _ int) {
		if progress != nil {
			progress(done)
		}
	}, &out)
	return out, err
}

// work sends a request and follows it to its end.
func (c *Client) work(ctx context.Context, path string, request any, progress func(done, total int), out any) error {
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	resp, err := c.do(ctx, http.MethodPost, path, bytes.NewReader(text), "application/json")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	if resp.StatusCode != http.StatusOK {
		return refused(resp)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		var e workEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("answer of the daemon: %w", err)
		}
		switch {
		case e.Error != "":
			return errors.New(e.Error)
		case e.Result != nil:
			return json.Unmarshal(e.Result, out)
		case progress != nil && e.Done > 0:
			progress(int(e.Done), int(e.Total))
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err = lines.Err(); err == nil {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("the daemon at %s went away: %w", c.path, err)
}
