package control

import (
	"context"
	"net/http"
)

// ReplaySummary is what became of the refused messages that were kept whole.
type ReplaySummary struct {
	Messages   int            `json:"messages"`
	Accepted   int            `json:"accepted"`
	Owned      int            `json:"owned"`      // of the accepted: new events, counted
	Duplicates int            `json:"duplicates"` // of the accepted: known before
	Expired    int            `json:"expired"`    // of the accepted: older than the archive's horizon
	Rejected   map[string]int `json:"rejected"`   // refused again, by reason: they are kept on
}

// Replayer is a Daemon that can give refused messages in again.
type Replayer interface {
	ReplayRejects(ctx context.Context) (ReplaySummary, error)
}

func (s *Server) replay(r Replayer) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		sum, err := r.ReplayRejects(req.Context())
		if err != nil {
			answer(w, http.StatusConflict, Event{Error: s.why(req.Context(), err).Error()})
			return
		}
		answer(w, http.StatusOK, sum)
	}
}

// ReplayRejects has the daemon give the refused messages that were kept whole in again.
func (c *Client) ReplayRejects(ctx context.Context) (sum ReplaySummary, err error) {
	err = c.short(ctx, http.MethodPost, "/rejects/replay", &sum)
	return sum, err
}
