package datagrepper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"time"
)

const (
	// firstWindow, maxWindow: windows grow while there is little in them, up to a month.
	firstWindow = int64(time.Hour / time.Second)
	maxWindow   = 30 * 24 * firstWindow
	// fewRows, manyRows, mostRows: a window with fewer rows is followed by one twice as long, one with more by a
	// shorter one, and one with still more is not read: an archive counts all rows before a page.
	fewRows, manyRows, mostRows = 500, 2000, 4000
	// rereads is how often a window is read whose rows don't add up to what the archive says, before it is halved.
	rereads = 3
	// lastRereads is the same for a window of one second, which can't be halved.
	lastRereads = 8
	// halveAfter is how many failures in a row halve a window; patience is how many end the backfill.
	halveAfter, patience = 2, 12
	firstPause, maxPause = 500 * time.Millisecond, time.Minute
	// longestWait is the longest that an archive may ask to be left alone for.
	longestWait = time.Hour
	// restMax bounds the rest between two requests, which else lasts as long as the archive worked on the one before.
	restMax = 2 * time.Second
	// defaultRate is how many requests a second an archive elsewhere gets at most.
	defaultRate = 5
	// Grace is how long an archive may take to have everything: what is younger is fetched, but not noted as done.
	Grace = 10 * time.Minute
	// maxLag is how far a row's time may be outside of the window that was asked for: archives that take local time for
	// UTC exist.
	maxLag = int64(25 * time.Hour / time.Second)
)

// Sink takes what was fetched.
type Sink interface {
	// Deliver takes envelopes, in the order of the archive.
	Deliver(ctx context.Context, envelopes [][]byte) error
	// Archived waits until everything delivered so far is durable.
	Archived(ctx context.Context) error
}

// Options say what to fetch, and how.
type Options struct {
	URL   string // of the archive: .../raw, .../v2/search, or what stands before it
	Span  Span
	State *State
	Sink  Sink
	// Rate bounds the requests a second; 0 is none for an archive on this machine, and few, with rests, elsewhere.
	Rate      float64
	Progress  func(Progress) // called now and then from one goroutine
	HTTP      *http.Client
	UserAgent string
	Logger    *slog.Logger
	Now       func() time.Time
	Sleep     func(ctx context.Context, d time.Duration) error

	gather time.Duration // how long steps gather before they are noted: what is noted must be durable first; 200 ms
}

// Progress is how far a backfill is.
type Progress struct {
	Events     int   // fetched by this one
	Done, Todo int64 // seconds of the span that were missing, and how many of them are fetched
}

// Incomplete is a window of which the archive did not give all that it says it has.
type Incomplete struct {
	Span
	Have  int `json:"have"`
	Total int `json:"total"`
}

// Result is what a backfill came to.
type Result struct {
	Events     int          `json:"events"`   // different ones, per window
	Requests   int          `json:"requests"` // that the archive got
	Failures   int          `json:"failures"` // of them
	Windows    int          `json:"windows"`
	Incomplete []Incomplete `json:"incomplete"` // fetched as far as they go; they are asked for again the next time
}

// Fetch brings in what of a span is not done yet. It may be called again after an error or a kill: what was archived is not
// asked for again.
func Fetch(ctx context.Context, o Options) (Result, error) {
	o.HTTP = cmp.Or(o.HTTP, http.DefaultClient)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	o.gather = cmp.Or(o.gather, 200*time.Millisecond)
	c, err := newClient(&o)
	if err != nil {
		return Result{}, err
	}
	f := &fetcher{o: &o, client: c, key: Key(o.URL), size: firstWindow, rate: o.Rate}
	if f.rate == 0 && !Local(o.URL) {
		f.rate = defaultRate
	}
	return f.run(ctx)
}

// fetcher is a backfill under way.
type fetcher struct {
	o      *Options
	client *client
	key    string
	size   int64 // of the next window, seconds
	rate   float64
	inARow int // failures
	result Result
	done   int64
	todo   int64
	before map[uint64]bool // of the window before
	steps  *recorder
	last   time.Time     // the end of the request before
	took   time.Duration // its time
	ahead  *ahead        // the next page, asked for already; nil where there is none
}

// ahead is a page that an archive on this machine prepares while the one before it is taken apart.
type ahead struct {
	span   Span
	number int
	answer chan answer
	cancel context.CancelFunc
}

type answer struct {
	page *page
	err  error
}

var errHalve = errors.New("a smaller window is wanted")

func (f *fetcher) run(ctx context.Context) (Result, error) {
	missing := f.o.State.Missing(f.key, f.o.Span)
	for _, s := range missing {
		f.todo += s.len()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f.steps = startRecorder(ctx, cancel, f.o, f.key)
	var err error
	for _, s := range missing {
		if err = f.span(ctx, s); err != nil {
			break
		}
	}
	if f.ahead != nil { // nobody wants it any more
		f.ahead.cancel()
		<-f.ahead.answer
	}
	if recorded := f.steps.end(); err == nil || (recorded != nil && ctx.Err() != nil) {
		err = cmp.Or(recorded, err)
	}
	return f.result, err
}

// span fetches one span, a window after the other.
func (f *fetcher) span(ctx context.Context, s Span) error {
	was, pages, seen := f.o.State.open(f.key, s)
	for s.len() > 0 {
		w := &window{Span: Span{s.From, s.From + min(f.size, s.len())}, seen: map[uint64]bool{}}
		if seen != nil {
			w.Span, w.pages, w.seen, w.resumed = was, pages, seen, true
			seen = nil
		}
		err := f.window(ctx, w)
		if errors.Is(err, errHalve) {
			f.size = max(w.len()/2, 1)
			if err := f.steps.forget(w.Span); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		f.adapt(w)
		f.before = w.seen
		f.done += w.len()
		f.result.Windows++
		f.tell()
		s.From = w.To
	}
	return nil
}

// adapt chooses the length of the next window.
func (f *fetcher) adapt(w *window) {
	switch {
	case w.total < fewRows && w.len() >= f.size:
		f.size = min(2*f.size, maxWindow)
	case w.total > manyRows:
		f.size = max(w.len()/2, 1)
	}
}

func (f *fetcher) tell() {
	if f.o.Progress != nil {
		f.o.Progress(Progress{Events: f.result.Events, Done: f.done, Todo: f.todo})
	}
}

// window is a part of a span that is fetched as one.
type window struct {
	Span
	pages   int             // fetched of the reading under way
	seen    map[uint64]bool // of all readings
	total   int             // the most that the archive said during the reading under way
	resumed bool            // the first pages were read before a kill
}

// window reads a window until there is everything that the archive says it has.
func (f *fetcher) window(ctx context.Context, w *window) error {
	for reading := 1; ; reading++ {
		rows, fresh, err := f.read(ctx, w)
		if err != nil {
			return err
		}
		if len(w.seen) >= w.total {
			break
		}
		f.o.Logger.Debug("a window's rows don't add up; it is read again", "from", w.From, "to", w.To, "have", len(w.seen), "total", w.total)
		if w.len() > 1 && reading >= rereads {
			return errHalve
		}
		if w.len() == 1 && reading >= lastRereads {
			if rows == w.total && fresh == 0 && !w.resumed {
				break // it has rows twice: readings add up and bring nothing new
			}
			f.result.Incomplete = append(f.result.Incomplete, Incomplete{w.Span, len(w.seen), w.total})
			f.steps.add(step{window: w.Span, whole: true}) // not done
			return nil
		}
		w.pages, w.resumed = 0, false
	}
	done := w.Span
	done.To = min(done.To, f.o.Now().Add(-Grace).Unix())
	f.steps.add(step{window: w.Span, done: done, whole: true})
	return nil
}

// read reads the pages of a window that are left, once. It gives how many rows there were, and how many that no reading
// had before.
func (f *fetcher) read(ctx context.Context, w *window) (rows, fresh int, err error) {
	w.total = 0
	for last := w.pages + 1; w.pages < last; {
		p, err := f.page(ctx, w.Span, w.pages+1)
		if err != nil {
			return 0, 0, err
		}
		w.total = max(w.total, *p.Total)
		if w.total > mostRows && w.len() > 1 && len(w.seen) == 0 {
			// The rest of what this page costs is saved: by the rate of events that it shows the next window is short enough.
			f.size = max(w.len()*manyRows/int64(w.total), 1)
			*w = window{Span: Span{w.From, w.From + f.size}, seen: w.seen}
			last = 1
			continue
		}
		last = max(p.Pages, (w.total+rowsPerPage-1)/rowsPerPage)
		if w.pages+1 < last {
			f.askAhead(ctx, w.Span, w.pages+2)
		}
		n, err := f.deliver(ctx, w, p)
		if err != nil {
			return 0, 0, err
		}
		rows, fresh = rows+len(p.Messages), fresh+n
		w.pages++
		if len(p.Messages) == 0 && w.pages*rowsPerPage >= w.total {
			break // whatever it says of further pages
		}
		if w.pages < last {
			f.steps.add(step{window: w.Span, pages: w.pages, seen: slices.Collect(maps.Keys(w.seen))})
		}
		f.tell()
	}
	return rows, fresh, nil
}

// deliver hands over what is new of a page.
func (f *fetcher) deliver(ctx context.Context, w *window, p *page) (fresh int, err error) {
	envelopes := make([][]byte, 0, len(p.Messages))
	for _, raw := range p.Messages {
		m, _ := parse(raw) // what is wrong with one, ingest says and counts
		if w.seen[m.id] {
			continue
		}
		if m.at != 0 && (m.at < float64(w.From-maxLag) || m.at > float64(w.To+maxLag)) {
			return 0, fmt.Errorf("%w: it was asked for %s to %s and gives a message of %s", errRefused, clock(w.From), clock(w.To), clock(int64(m.at)))
		}
		w.seen[m.id] = true
		fresh++
		if !f.before[m.id] { // the second where two windows meet is in both
			envelopes = append(envelopes, m.envelope)
		}
	}
	f.result.Events += len(envelopes)
	if len(envelopes) == 0 {
		return fresh, nil
	}
	return fresh, f.o.Sink.Deliver(ctx, envelopes)
}

func clock(s int64) string { return time.Unix(s, 0).UTC().Format(time.RFC3339) }
