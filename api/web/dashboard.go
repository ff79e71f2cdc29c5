package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// lookback is a window that ends now.
type lookback struct{ From, Text string }

var lookbacks = []lookback{{"now-1h", "hour"}, {"now-1d", "24 hours"}, {"now-7d", "7 days"}, {"now-30d", "30 days"}, {"now-1y", "year"}} // immutable

// card is a metric on the dashboard.
type card struct {
	metric
	Spark  string
	Total  int64
	Change string // against as long a time before, empty where that can't be said
	Note   string
	Newest time.Time // of latest values
	Known  bool      // Total is what was counted
}

const (
	crowd      = 12 // people that the dashboard names
	asksAtOnce = 4  // questions that it has answered side by side
)

// dashboard is GET /web/dashboard: every metric with what it counted lately.
func (w *Web) dashboard(ctx context.Context, r Request) (Reply, error) {
	back := lookbacks[1]
	if from := r.Query.Get("from"); from != "" {
		i := slices.IndexFunc(lookbacks, func(l lookback) bool { return l.From == from })
		if i < 0 {
			return Reply{}, refuse(http.StatusBadRequest, "from is %q here; there are now-1h, now-1d, now-7d, now-30d and now-1y. A metric’s own page shows any window.", cut(from, 60))
		}
		back = lookbacks[i]
	}
	list, err := w.metrics(ctx)
	if err != nil {
		return Reply{}, err
	}
	var st status
	if err := w.fetch(ctx, &st, "/api/v1/status", nil); err != nil {
		return Reply{}, err
	}
	cards, ids := make([]card, len(list)), make([]string, len(list))
	var people topRows
	asking, ctx := errgroup.WithContext(ctx)
	asking.SetLimit(asksAtOnce)
	for i, m := range list {
		ids[i] = m.ID
		asking.Go(func() (err error) {
			if m.Latest() {
				cards[i], err = w.latestCard(ctx, m)
			} else {
				cards[i], err = w.countCard(ctx, m, back)
			}
			return err
		})
	}
	asking.Go(func() (err error) {
		people, err = w.busiest(ctx, list, back)
		return err
	})
	if err := asking.Wait(); err != nil {
		return Reply{}, err
	}
	return w.render(r, "dashboard", "Dashboard", struct {
		Cards     []card
		Follow    string // what to be told of
		Status    status
		Back      lookback
		Lookbacks []lookback
		People    topRows
	}{cards, strings.Join(ids[:min(64, len(ids))], ","), st, back, lookbacks, people})
}

// countCard is what a metric counted, and how that compares with what it counted in as long a time before.
func (w *Web) countCard(ctx context.Context, m metric, back lookback) (card, error) {
	c := card{metric: m}
	var d columns
	err := w.fetch(ctx, &d, about(m.ID, "series"), url.Values{"from": {back.From}, "max_points": {"100"}})
	if why, ok := refused(err); ok {
		c.Note = why.Detail
		return c, nil
	}
	if err != nil || len(d.Series) == 0 {
		return c, err
	}
	c.Known, c.Total, c.Spark = true, d.Series[0].Total, spark(d)
	if c.Spark == "" && len(m.Intervals) > 0 {
		c.Note = "counted by " + m.Intervals[0]
	}
	var sum counted
	err = w.fetch(ctx, &sum, about(m.ID, "count"), url.Values{"from": {back.From}, "previous": {"1"}})
	if _, ok := refused(err); err != nil && !ok {
		return c, err
	}
	if sum.Previous != nil {
		c.Change = change(c.Total, sum.Previous.Count)
	}
	return c, nil
}

// change says by how much a number differs from the one before.
func change(now, before int64) string {
	switch ratio := float64(now) / float64(before); {
	case before <= 0 || now < 0: // nothing to compare with
		return ""
	case ratio >= 9.5:
		return fmt.Sprintf("▲ × %.0f", ratio)
	case ratio >= 1.005:
		return fmt.Sprintf("▲ %.0f %%", 100*(ratio-1))
	case ratio > 0.995:
		return "as before"
	default:
		return fmt.Sprintf("▼ %.0f %%", 100*(1-ratio))
	}
}

// latestCard is how many things a metric keeps the latest value of.
func (w *Web) latestCard(ctx context.Context, m metric) (card, error) {
	c := card{metric: m}
	var rows latestRows
	err := w.fetch(ctx, &rows, about(m.ID, "latest"), nil)
	if why, ok := refused(err); ok {
		c.Note = why.Detail
		return c, nil
	}
	for _, r := range rows.Rows {
		if r.Time.After(c.Newest) {
			c.Newest = r.Time
		}
	}
	c.Known, c.Total, c.Unit = true, int64(len(rows.Rows)), "latest values"
	return c, err
}

// busiest names people, the way to their pages: by the volume, else by the first metric that counts by them alone.
func (w *Web) busiest(ctx context.Context, list []metric, back lookback) (topRows, error) {
	var rows topRows
	i := slices.IndexFunc(list, func(m metric) bool { return m.ID == "volume-by-user" })
	if i < 0 {
		i = slices.IndexFunc(list, func(m metric) bool {
			return !m.Latest() && len(m.Dimensions) == 1 && m.Dimensions[0].Name == "user"
		})
	}
	if i < 0 {
		return rows, nil
	}
	err := w.fetch(ctx, &rows, about(list[i].ID, "top"), url.Values{"by": {"user"}, "from": {back.From}, "limit": {fmt.Sprint(crowd)}})
	if _, ok := refused(err); ok {
		return topRows{}, nil
	}
	rows.Rows = slices.DeleteFunc(rows.Rows, func(r ranked) bool { return r.Key["user"] == "" })
	return rows, err
}
