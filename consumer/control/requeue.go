package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

// RequeueSummary is what became of a plugin's dead letters that were given to it again.
type RequeueSummary struct {
	Taken   int `json:"taken"`   // their events are counted now
	Dead    int `json:"dead"`    // dead again
	Expired int `json:"expired"` // stay what they are: their events are not archived any more
	Left    int `json:"left"`    // were not tried, for an error came first
}

// Requeuer is a Daemon that can give dead letters to their plugin again.
type Requeuer interface {
	// RequeuePlugin does it. progress must not block.
	RequeuePlugin(ctx context.Context, id string, progress func(done, total int)) (RequeueSummary, error)
}

// requeueEvent is a line of the answer: how far it is or, with a summary, the end.
type requeueEvent struct {
	Done    int             `json:"done"`
	Total   int             `json:"total"`
	Summary *RequeueSummary `json:"summary,omitempty"`
	Error   string          `json:"error,omitempty"` // beside a summary
}

func (s *Server) requeue(d Requeuer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		var at atomic.Pointer[requeueEvent]
		at.Store(&requeueEvent{})
		end := make(chan requeueEvent, 1)
		go func() {
			sum, err := d.RequeuePlugin(ctx, r.PathValue("id"), func(done, total int) { at.Store(&requeueEvent{Done: done, Total: total}) })
			e := *at.Load()
			if e.Summary = &sum; err != nil {
				e.Error = s.why(ctx, err).Error()
			}
			end <- e
		}()
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.WriteHeader(http.StatusOK)
		tick := time.NewTicker(tellEvery)
		defer tick.Stop()
		for told, over := (requeueEvent{Done: -1}), false; !over; {
			var e requeueEvent
			select {
			case e = <-end:
				over = true
			case <-tick.C:
				e = *at.Load()
			}
			if !over && e == told {
				continue
			}
			if told = e; tellLine(w, e) != nil && !over {
				cancel(errUnread)
				<-end
				return
			}
		}
	}
}

// tellLine writes a line at once.
func tellLine(w http.ResponseWriter, e any) error {
	rc := http.NewResponseController(w)
	if err := rc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if err := json.NewEncoder(w).Encode(e); err != nil {
		return err
	}
	return rc.Flush()
}

// RequeuePlugin has the daemon give a plugin's dead letters to it again.
func (c *Client) RequeuePlugin(ctx context.Context, id string, progress func(done, total int)) (RequeueSummary, error) {
	resp, err := c.do(ctx, http.MethodPost, "/plugins/"+url.PathEscape(id)+"/requeue", nil, "")
	if err != nil {
		return RequeueSummary{}, err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	if resp.StatusCode != http.StatusOK {
		return RequeueSummary{}, refused(resp)
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		var e requeueEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return RequeueSummary{}, fmt.Errorf("answer of the daemon at %s: %w", c.path, err)
		}
		if progress != nil {
			progress(e.Done, e.Total)
		}
		if e.Summary == nil {
			continue
		}
		if e.Error != "" {
			err = errors.New(e.Error)
		}
		return *e.Summary, err
	}
	if ctx.Err() != nil {
		return RequeueSummary{}, ctx.Err()
	}
	if err = lines.Err(); err == nil {
		err = io.ErrUnexpectedEOF
	}
	return RequeueSummary{}, fmt.Errorf("the daemon went away; what was taken stays taken, ask again for the rest when it is back (%w)", err)
}
