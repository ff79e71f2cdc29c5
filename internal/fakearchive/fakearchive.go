// Package fakearchive is an archive that speaks datagrepper's protocol and misbehaves by a seed, for tests of whoever
// reads from one.
package fakearchive

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"sync"
)

// Row is an archived message.
type Row struct {
	Time float64 // seconds since 1970
	Raw  json.RawMessage
}

// Faults are probabilities, per request.
type Faults struct {
	Error     float64 // 500, sometimes with a page of HTML
	Throttle  float64 // 429 or 503 with Retry-After: 0
	Cut       float64 // the answer ends in its middle
	Truncated float64 // rows are missing, the total is right
	Repeated  float64 // rows stand twice and others not at all, the total is right
	Shuffled  float64 // rows stand anywhere near their place, also on another page
	Grown     float64 // a message is added, at or after the latest start that was asked for
	SlowRows  int     // windows with more rows than this fail always; 0 is none
}

// Some is what a bad day looks like.
var Some = Faults{Error: 0.04, Throttle: 0.02, Cut: 0.03, Truncated: 0.04, Repeated: 0.04, Shuffled: 0.04, Grown: 0.05}

// Archive answers below any path that ends in /raw, as datagrepper's v1, or in /v2/search.
type Archive struct {
	Faults Faults
	Grow   func(after float64) (Row, bool) // the next message that is added; at or after a time, or nobody may read it
	V2Only bool                            // there is no /raw

	mu   sync.Mutex
	rows []Row
	rng  *rand.Rand
	good map[string]int // pages answered as they should be, by their query
	asks int
	last float64 // the latest start asked for
}

// New makes an archive.
func New(seed uint64, rows []Row) *Archive {
	a := &Archive{rows: slices.Clone(rows), rng: rand.New(rand.NewPCG(seed, 7)), good: map[string]int{}}
	sort.SliceStable(a.rows, func(i, j int) bool { return a.rows[i].Time < a.rows[j].Time })
	return a
}

// Rows gives what the archive holds now.
func (a *Archive) Rows() []Row {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.rows)
}

// Asked gives how many requests there were, and how many of the pages that were answered well were asked for again.
func (a *Archive) Asked() (requests, again int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range a.good {
		again += n - 1
	}
	return a.asks, again
}

// ServeHTTP answers one request.
func (a *Archive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asks++
	if a.V2Only && r.URL.Path != "/v2/search" {
		http.NotFound(w, r)
		return
	}
	q, err := parse(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.last = max(a.last, q.start)
	a.grow()
	found := a.between(q.start, q.end)
	switch f := a.Faults; {
	case a.hit(f.Error), f.SlowRows > 0 && len(found) > f.SlowRows:
		http.Error(w, "<html><title>Internal Server Error</title></html>", http.StatusInternalServerError)
		return
	case a.hit(f.Throttle):
		w.Header().Set("Retry-After", "0")
		http.Error(w, "slow down", []int{http.StatusTooManyRequests, http.StatusServiceUnavailable}[a.rng.IntN(2)])
		return
	}
	faulty := false
	if a.hit(a.Faults.Shuffled) {
		faulty = true
		for i := range found {
			j := min(i+a.rng.IntN(150), len(found)-1)
			found[i], found[j] = found[j], found[i]
		}
	}
	total := len(found)
	page := found[min((q.page-1)*q.rows, total):min(q.page*q.rows, total)]
	page, spoilt := a.spoil(page)
	out := a.answer(page, total, q)
	if len(out) > 200 && a.hit(a.Faults.Cut) {
		_, _ = w.Write(out[:len(out)/2])
		return
	}
	if !faulty && !spoilt {
		a.good[r.URL.RawQuery]++
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(out)
}

func (a *Archive) hit(p float64) bool { return p > 0 && a.rng.Float64() < p }

// spoil takes rows out of a page, or puts others twice in their place.
func (a *Archive) spoil(page []Row) ([]Row, bool) {
	switch {
	case len(page) < 2:
	case a.hit(a.Faults.Truncated):
		return page[:a.rng.IntN(len(page))], true
	case a.hit(a.Faults.Repeated):
		page = slices.Clone(page)
		for range 1 + a.rng.IntN(3) {
			page[a.rng.IntN(len(page))] = page[a.rng.IntN(len(page))]
		}
		return page, true
	}
	return page, false
}

// grow adds a message where somebody may still read it.
func (a *Archive) grow() {
	if a.Grow == nil || !a.hit(a.Faults.Grown) {
		return
	}
	row, ok := a.Grow(a.last)
	if !ok || row.Time < a.last {
		return
	}
	i := sort.Search(len(a.rows), func(i int) bool { return a.rows[i].Time > row.Time })
	a.rows = slices.Insert(a.rows, i, row)
}

func (a *Archive) between(start, end float64) []Row {
	from := sort.Search(len(a.rows), func(i int) bool { return a.rows[i].Time >= start })
	to := sort.Search(len(a.rows), func(i int) bool { return a.rows[i].Time > end })
	return slices.Clone(a.rows[from:max(from, to)])
}

func (a *Archive) answer(page []Row, total int, q query) []byte {
	messages := make([]json.RawMessage, 0, len(page))
	for _, r := range page {
		messages = append(messages, r.Raw)
	}
	out, _ := json.Marshal(map[string]any{ // of strings, numbers and JSON: it can't fail
		"raw_messages": messages, "count": len(page), "total": total, "pages": (total + q.rows - 1) / q.rows,
		"arguments": map[string]any{"start": q.start, "end": q.end, "page": q.page, "rows_per_page": q.rows, "order": "asc"},
	})
	return out
}

type query struct {
	start, end float64
	page, rows int
}

func parse(v url.Values) (q query, err error) {
	if q.start, err = strconv.ParseFloat(v.Get("start"), 64); err == nil {
		q.end, err = strconv.ParseFloat(v.Get("end"), 64)
	}
	if err == nil {
		q.page, err = strconv.Atoi(v.Get("page"))
	}
	if err == nil {
		q.rows, err = strconv.Atoi(v.Get("rows_per_page"))
	}
	if err == nil && (q.page < 1 || q.rows < 1 || q.rows > 100 || v.Get("order") != "asc") {
		err = fmt.Errorf("page, rows_per_page or order")
	}
	return q, err
}
