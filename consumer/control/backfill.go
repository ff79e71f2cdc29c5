package control

import (
	"context"
	"net/http"
	"time"
)

// BackfillRequest says what to fetch; zero values stand for what the configuration says, To for now.
type BackfillRequest struct {
	URL    string    `json:"url"`
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	Rate   float64   `json:"rate"` // requests a second, 0 for what is polite
	NoWait bool      `json:"no_wait"`
	Gaps   bool      `json:"gaps"` // only of the times of which events are known to be missing; From and To bound them
}

// Window is a range of time of which an archive did not give all that it says it has.
type Window struct {
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Have  int       `json:"have"`
	Total int       `json:"total"`
}

// BackfillSummary is what a backfill came to.
type BackfillSummary struct {
	URL        string         `json:"url"` // without a password
	From       time.Time      `json:"from"`
	To         time.Time      `json:"to"`
	Fetched    int            `json:"fetched"`
	Owned      int            `json:"owned"`      // of them: new events, counted
	Duplicates int            `json:"duplicates"` // of them: known before
	Expired    int            `json:"expired"`    // of them: older than the archive's horizon
	Rejected   map[string]int `json:"rejected"`   // of them: refused, by reason
	Requests   int            `json:"requests"`
	Failures   int            `json:"failures"` // requests that had to be repeated
	Incomplete []Window       `json:"incomplete"`
	Gaps       int            `json:"gaps"` // how many stretches of time were asked for, where only gaps were
}

// Backfiller is a Daemon that can fetch history. Progress gives events so far and about how many there will be.
type Backfiller interface {
	Backfill(ctx context.Context, r BackfillRequest, progress func(events, about int)) (BackfillSummary, error)
}

func (s *Server) backfill(d Backfiller) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		var r BackfillRequest
		s.work(w, req, &r, func(ctx context.Context, tell func(done, total int)) (any, error) { return d.Backfill(ctx, r, tell) })
	}
}

// Backfill has the daemon fetch history. A client that goes away ends it; run again, it goes on.
func (c *Client) Backfill(ctx context.Context, r BackfillRequest, progress func(events, about int)) (out BackfillSummary, err error) {
	err = c.work(ctx, "/backfill", r, progress, &out)
	return out, err
}
