package api

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/statscache/statscache/store"
)

// maxDays bounds a calendar: ten years.
const maxDays = 3660

// calendarDay is a day of a calendar.
type calendarDay struct {
	Date  string `json:"date"`
	Count int64  `json:"count"`
	Level int64  `json:"level"` // 0 for none, 1 to 4 by quarters of what all but the busiest days stay below
}

// calendarDocument is the answer of /calendar.
type calendarDocument struct {
	head
	Total int64         `json:"total"`
	Max   int64         `json:"max"`
	Days  []calendarDay `json:"days"`
}

func (s *Server) calendar(ctx context.Context, a *asking) (*answer, error) {
	doc, err := s.calendarOf(ctx, a)
	if err != nil {
		return nil, err
	}
	return dataAnswer(a.format, doc, func() *sheet {
		dates, numbers, levels := make([]string, len(doc.Days)), make([]int64, len(doc.Days)), make([]int64, len(doc.Days))
		for i, d := range doc.Days {
			dates[i], numbers[i], levels[i] = d.Date, d.Count, d.Level
		}
		return &sheet{[]sheetColumn{{name: "date", texts: dates}, {name: "count", numbers: numbers}, {name: "level", numbers: levels}}, len(dates)}
	})
}

// calendarOf counts by the days of the caller's zone: the year up to today where no window is given.
func (s *Server) calendarOf(ctx context.Context, a *asking) (calendarDocument, error) {
	version := s.store.Version(a.metric.ID)
	ls, err := s.levelsOf(ctx, a.metric)
	if err != nil {
		return calendarDocument{}, err
	}
	a.step = pointStep{days: 1}
	if !a.given["from"] {
		if !a.given["to"] {
			a.to = a.step.next(a.now, a.loc)
		}
		a.from = dayStart(civilDay(time.Unix(a.to-1, 0).In(a.loc))-364, a.loc)
		a.given["from"] = true
	}
	if err := s.fillWindow(ctx, a); err != nil {
		return calendarDocument{}, err
	}
	edges, ok := a.step.edges(a.from, a.to, a.loc, maxDays)
	if !ok {
		return calendarDocument{}, costly("too-many-points", "from", fmt.Sprintf("a calendar has at most %d days: ask for a shorter window, or for a series with a longer step", maxDays))
	}
	few := slices.ContainsFunc(a.where, func(w store.Match) bool { return !w.Not && len(w.In) > 0 })
	p := newPlan(edges, a.from, a.to, a.now, ls, few)
	t, err := s.sum(ctx, a, p, summing{where: a.where})
	if few && tooManyCounts(err) { // the condition chooses many series
		p = newPlan(edges, a.from, a.to, a.now, ls, false)
		t, err = s.sum(ctx, a, p, summing{where: a.where})
	}
	if err != nil {
		return calendarDocument{}, err
	}
	h, err := s.headOf(ctx, a, p, ls, version)
	if err != nil {
		return calendarDocument{}, err
	}
	doc := calendarDocument{head: h, Days: make([]calendarDay, 0, len(edges)-1)}
	numbers, at := t.group(nil, len(p.points)), map[int64]int64{}
	for i, pt := range p.points {
		at[pt.time] = numbers[i]
		doc.Total += numbers[i]
		doc.Max = max(doc.Max, numbers[i])
	}
	most := usual(numbers)
	for _, e := range edges[:len(edges)-1] {
		d := calendarDay{Date: time.Unix(e, 0).In(a.loc).Format(time.DateOnly), Count: at[e]}
		if d.Count > 0 {
			d.Level = min(4, (4*min(d.Count, most)+most-1)/most)
		}
		doc.Days = append(doc.Days, d)
	}
	return doc, nil
}

// usual gives what 19 of 20 days with counts stay at or below: one exceptional day must not make all others look alike.
func usual(counts []int64) int64 {
	some := make([]int64, 0, len(counts))
	for _, n := range counts {
		if n > 0 {
			some = append(some, n)
		}
	}
	if len(some) == 0 {
		return 1
	}
	slices.Sort(some)
	return some[(len(some)*19+19)/20-1]
}
