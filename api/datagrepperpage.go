package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/statscache/statscache/store"
)

const (
	maxGrepBytes = 32 << 20         // bodies of a page
	maxPlaces    = 4096             // beginnings of pages that are remembered
	placeLife    = 30 * time.Second // for so long
	nearEnough   = 256              // events that are read rather than passed over by counting
	mostGuesses  = 80               // of a time; a span of all times is halved in 64
)

// grepPlaces remembers where pages begin, so that a client that goes from page to page costs no more than one that
// has cursors.
type grepPlaces struct {
	mu  sync.Mutex
	all map[string]grepPlace
}

type grepPlace struct {
	store.EventCursor
	until time.Time
}

func (p *grepPlaces) get(key string, now time.Time) *store.EventCursor {
	p.mu.Lock()
	defer p.mu.Unlock()
	if x, ok := p.all[key]; ok && now.Before(x.until) {
		return &x.EventCursor
	}
	return nil
}

func (p *grepPlaces) put(key string, at *store.EventCursor, now time.Time) {
	if at == nil || len(at.ID) > maxEventID {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil || len(p.all) >= maxPlaces {
		p.all = map[string]grepPlace{}
	}
	p.all[key] = grepPlace{*at, now.Add(placeLife)}
}

func pageKey(q *grepQuery, page int) string { return fmt.Sprintf("%d %s", page, q.same) }

// grepPage gives the events of a page and how many there are on all.
func (s *Server) grepPage(ctx context.Context, q *grepQuery) (events []store.Event, total int64, err error) {
	if total, err = s.countEvents(ctx, q.filter); err != nil {
		return nil, 0, q.explain(err)
	}
	offset := int64(q.args.Page-1) * int64(q.args.Rows)
	if offset >= total {
		return nil, total, nil
	}
	r := store.FindRequest{EventFilter: q.filter, Desc: q.args.Order == "desc", Limit: q.args.Rows, Bodies: true, MaxBytes: maxGrepBytes}
	if offset > 0 {
		if r.After = s.places.get(pageKey(q, q.args.Page), s.now()); r.After == nil {
			if r.After, err = s.skip(ctx, r, offset, total); err != nil {
				return nil, 0, q.explain(err)
			}
		}
	}
	page, err := s.findEvents(ctx, r)
	if err != nil {
		return nil, 0, q.explain(err)
	}
	if len(page.Events) < q.args.Rows && page.Next != nil {
		no := badGrep("the messages of this page are larger than %d bytes together: ask with a smaller rows_per_page", maxGrepBytes)
		no.arguments = &q.args
		return nil, 0, no
	}
	s.places.put(pageKey(q, q.args.Page+1), page.Next, s.now())
	return page.Events, total, nil
}

// explain makes datagrepper's error of what can't be answered.
func (q *grepQuery) explain(err error) error {
	var p *problem
	if errors.As(err, &p) {
		return &grepError{status: p.Status, detail: p.Detail, arguments: &q.args}
	}
	return err
}

// skip finds the place behind the first offset events of a question. Counting is cheap and reading is not, so it
// guesses a time, counts what comes before it, and reads the last few.
func (s *Server) skip(ctx context.Context, r store.FindRequest, offset, total int64) (*store.EventCursor, error) {
	r.Bodies, r.MaxBytes = false, 0
	passed := int64(0)
	if len(r.Contains) == 0 && offset > nearEnough {
		var err error
		if r.After, passed, err = s.guess(ctx, r, offset, total); err != nil {
			return nil, err
		}
	}
	if passed == offset {
		return r.After, nil
	}
	r.Limit = int(min(offset-passed, math.MaxInt32))
	page, err := s.findEvents(ctx, r)
	if err != nil {
		return nil, err
	}
	if page.Next == nil { // there are fewer now: behind the last one
		return &store.EventCursor{Time: math.MinInt64}, nil
	}
	return page.Next, nil
}

// guess narrows down a time with at most offset events before it (behind it, newest first): close enough, or as close
// as times tell events apart.
func (s *Server) guess(ctx context.Context, r store.FindRequest, offset, total int64) (at *store.EventCursor, passed int64, err error) {
	near, far, err := s.ends(ctx, r)
	if err != nil {
		return nil, 0, err
	}
	before := func(t int64) (int64, error) {
		f := r.EventFilter
		if r.Desc {
			f.From = max(f.From, t)
		} else {
			f.To = min(f.To, t)
		}
		return s.countEvents(ctx, f)
	}
	at = cursorAt(near)
	nearCount, farCount := int64(0), total
	for n := range mostGuesses {
		if offset-nearCount <= nearEnough || far-near <= 1 && near-far <= 1 {
			break
		}
		mid := near + (far-near)/2
		if n%2 == 0 { // the share of the time that is the share of the events
			mid = near + int64(float64(far-near)*(float64(offset-nearCount)-nearEnough/2)/float64(farCount-nearCount))
		}
		if mid == near || mid == far || (mid > near) != (far > near) || (mid < far) != (near < far) {
			mid = near + (far-near)/2
		}
		count, err := before(mid)
		if err != nil {
			return nil, 0, err
		}
		if count <= offset {
			near, nearCount, at = mid, count, cursorAt(mid)
		} else {
			far, farCount = mid, count
		}
	}
	return at, nearCount, nil
}

// cursorAt is the place between the events before a time and those from it on; newest first, between those from it on
// and those before.
func cursorAt(t int64) *store.EventCursor { return &store.EventCursor{Time: t} }

// ends gives the times between which the events of a question lie, the first one in its order first.
func (s *Server) ends(ctx context.Context, r store.FindRequest) (near, far int64, err error) {
	r.Limit = 1
	first, err := s.findEvents(ctx, r)
	if err != nil {
		return 0, 0, err
	}
	r.Desc = !r.Desc
	last, err := s.findEvents(ctx, r)
	if err != nil || len(first.Events) == 0 || len(last.Events) == 0 {
		return 0, 0, err
	}
	if near, far = first.Events[0].Time, last.Events[0].Time; !r.Desc { // it was turned round
		return near + 1, far, nil
	}
	return near, far + 1, nil
}
