package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/statscache/statscache/store"
)

// incomplete says why numbers between two times aren't all there is.
type incomplete struct {
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	Reason string    `json:"reason"` // open, gap, backfilling, lagging or expired
}

// coarseSpan says that between two times numbers could be cut at whole buckets of an interval only.
type coarseSpan struct {
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Interval string    `json:"interval"`
}

// head is what every answer says of what it is about.
type head struct {
	Metric      string       `json:"metric"`
	From        time.Time    `json:"from"`
	To          time.Time    `json:"to"`
	Step        string       `json:"step,omitempty"`
	TZ          string       `json:"tz"`
	AsOf        time.Time    `json:"as_of"`
	Version     uint64       `json:"version"`
	MultiValued bool         `json:"multi_valued"`
	Complete    bool         `json:"complete"`
	Incomplete  []incomplete `json:"incomplete"`
	Coarse      []coarseSpan `json:"coarse"`
}

// levelsOf gives the intervals of a metric and how far back each goes.
func (s *Server) levelsOf(ctx context.Context, m *store.ServedMetric) (levels, error) {
	h, err := s.store.Horizons(ctx)
	if err != nil {
		return nil, fmt.Errorf("read horizons: %w", err)
	}
	all := make([]level, len(m.Intervals))
	for i, iv := range m.Intervals {
		all[i] = level{int64(iv / time.Second), minTime}
		for _, h := range h.Counters {
			if h.Metric == m.ID && h.Interval == iv {
				all[i].horizon = max(minTime, h.Before)
			}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("metric %s has no intervals: %w", m.ID, store.ErrUnknown)
	}
	return newLevels(all), nil
}

// fillWindow gives the ends of the window that weren't asked for: all there is, up to the end of today.
func (s *Server) fillWindow(ctx context.Context, a *asking) error {
	days := pointStep{days: 1}
	if !a.given["to"] {
		a.to = days.next(a.now, a.loc)
	}
	if !a.given["from"] {
		a.from = days.floor(a.to-1, a.loc)
		for i := len(a.metric.Intervals) - 1; i >= 0; i-- {
			first, _, ok, err := s.store.Span(ctx, a.metric.ID, a.metric.Intervals[i])
			if err != nil {
				return fmt.Errorf("read the span of %s: %w", a.metric.ID, err)
			}
			if ok {
				a.from = min(a.from, days.floor(max(first, minTime+daySeconds), a.loc))
				break // coarser ones are kept at least as long
			}
		}
	}
	if a.from >= a.to {
		return badParameter("from", fmt.Sprintf("%s is not before %s, the end of today; give to as well", clock(a.from), clock(a.to)))
	}
	return nil
}

// autoSteps are tried where no step is asked for.
var autoSteps = []pointStep{ // immutable
	{seconds: 1}, {seconds: 5}, {seconds: 15}, {seconds: 30}, {seconds: 60}, {seconds: 300}, {seconds: 900}, {seconds: 1800}, {seconds: 3600},
	{seconds: 3 * 3600}, {seconds: 6 * 3600}, {seconds: 12 * 3600}, {days: 1}, {days: 7}, {months: 1}, {months: 3}, {months: 12}, {months: 60},
	{months: 120}, {months: 1200},
}

// cutPoints chooses the step and gives the edges of the points.
func (a *asking) cutPoints(ls levels) ([]int64, error) {
	if !a.given["step"] {
		return a.autoStep(ls), nil
	}
	if finest := ls[0].seconds; a.step.months == 0 && (a.step.seconds+a.step.days*daySeconds)%finest != 0 {
		n := (a.step.shortest() + finest - 1) / finest
		a.step = stepOf(n * finest) // finer than it is counted: the next that can be
	}
	a.openEnd()
	edges, ok := a.step.edges(a.from, a.to, a.loc, a.maxPoints)
	if !ok {
		least := (a.to-a.from)/int64(a.maxPoints) + 1
		return nil, costly("too-many-points", "step", fmt.Sprintf("steps of %s cut %s to %s into more points than max_points, %d (which may be up to %d): ask with a step of at least %s, without one, or for a shorter window",
			a.step, clock(a.from), clock(a.to), a.maxPoints, maxPoints, IntervalName(time.Duration(least)*time.Second)))
	}
	return edges, nil
}

// openEnd moves an end that wasn't asked for to that of the point that is open now.
func (a *asking) openEnd() {
	if !a.given["to"] {
		if to := a.step.next(max(a.now, a.from), a.loc); to > a.from {
			a.to = to
		}
	}
}

// autoStep takes the shortest step that makes few enough points of buckets that are there, all of the window in one
// where there is none.
func (a *asking) autoStep(ls levels) []int64 {
	to, grain := a.to, ls.grain(max(a.from, ls.kept()))
	for _, a.step = range autoSteps {
		if a.step.months == 0 && a.step.shortest()%grain != 0 {
			continue
		}
		a.to = to
		if !a.given["to"] {
			a.to = a.now + 1
		}
		a.openEnd()
		if edges, ok := a.step.edges(a.from, a.to, a.loc, a.maxPoints); ok {
			return edges
		}
	}
	a.to, a.step = to, pointStep{seconds: to - a.from}
	return []int64{a.from, to}
}

// headOf says what an answer is about. points are all of its points, of which the last ones may be open.
func (s *Server) headOf(ctx context.Context, a *asking, p *plan, ls levels, version uint64) (head, error) {
	at, err := s.asOf(ctx, a.metric.ID, version)
	if err != nil {
		return head{}, err
	}
	h := head{
		Metric: a.metric.ID, From: utc(a.from), To: utc(a.to), TZ: a.loc.String(), Version: version, AsOf: at,
		MultiValued: a.multiValued(), Incomplete: []incomplete{}, Coarse: []coarseSpan{},
	}
	if kept := ls.kept(); kept > a.from && kept > minTime {
		h.Incomplete = append(h.Incomplete, incomplete{h.From, utc(min(kept, a.to)), "expired"})
	}
	for _, pl := range s.plugins() {
		if pl.ID == a.metric.Plugin && pl.Lag > 0 {
			h.Incomplete = append(h.Incomplete, incomplete{h.From, h.To, "lagging"})
		}
	}
	h.Incomplete = append(h.Incomplete, s.missingNow().lacks(a.from, a.to)...)
	if a.to > a.now {
		open := max(a.from, pointStep{days: 1}.floor(a.now, a.loc)) // for one number of the whole window
		if len(p.points) > 1 {
			if i := p.pointAt(a.now); i >= 0 {
				open = max(a.from, p.points[i].time)
			}
		}
		h.Incomplete = append(h.Incomplete, incomplete{utc(open), h.To, "open"})
	}
	h.Complete = len(h.Incomplete) == 0
	for _, c := range p.coarse {
		h.Coarse = append(h.Coarse, coarseSpan{utc(c.from), utc(c.to), IntervalName(time.Duration(c.interval) * time.Second)})
	}
	return h, nil
}

const (
	problemURN = "urn:statscache:problem:"
	manyCounts = "too-many-counts"
)

// costly is the problem of a question that would take more than one may. Its type is for programs.
func costly(kind, parameter, detail string) *problem {
	return &problem{Type: problemURN + kind, Title: "Too costly", Status: http.StatusBadRequest, Detail: detail, Parameter: parameter}
}

// tooManyCounts says whether a question failed because too many counts would have to be read.
func tooManyCounts(err error) bool {
	var p *problem
	return errors.As(err, &p) && p.Type == problemURN+manyCounts
}
