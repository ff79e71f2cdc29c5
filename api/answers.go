package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/zeebo/xxh3"
)

// How long a question to the store may wait for its turn and take.
const (
	queryWait = 2 * time.Second
	queryTime = 10 * time.Second
)

// question is a request understood: what names its answer, what ends it and how it is made.
type question struct {
	key   string     // everything about the request that the body depends on, but nothing of the moment
	scope string     // the metric whose commits end the answer; allMetrics; or empty
	until time.Time  // when the answer ends anyway; zero for never
	dir   *directory // the list of metrics that build relies on; nil: it relies on none in particular
	gaps  bool       // it says what is missing: it ends when that changes
	build func(ctx context.Context) (*answer, error)
}

// allMetrics is the scope of answers that every commit ends.
const allMetrics = "*"

// answer is a finished body with what goes along with it. It doesn't change once sealed, but that compressed forms are
// added to it.
type answer struct {
	body        []byte
	contentType string

	cacheControl string       // briefly where it is empty
	more         []headerLine // besides those that all answers have
	paged        bool
	next         string // cursor of the page behind this one
	page, pages  int
	until        time.Time
	fixed        bool // it holds as long as the process runs

	scope          string
	gaps           bool
	shape, version uint64
	etag           string // opaque part, without W/ and quotes
	header         answerHeader
	mu             sync.Mutex // held while a compressed form is made
	forms          [codings]atomic.Pointer[form]
}

// answerHeader holds header values ready to be hung into a response: the same slices for every one.
type answerHeader struct {
	contentType, cacheControl, etag, number, count []string
}

// headerLine is a header ready to be hung into responses.
type headerLine struct {
	name   string // in its canonical form
	values []string
}

// form is the body in one content coding.
type form struct {
	body             []byte
	encoding, length []string // encoding is nil for the plain body
}

// jsonAnswer makes an answer of any value.
func jsonAnswer(v any) (*answer, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return &answer{body: append(body, '\n'), contentType: "application/json"}, nil
}

// seal makes the answer ready to be served. The ETag is made of the content: it stays the same when a commit changed
// nothing here, and it is the same on every node. It is weak since the codings share it.
func (a *answer) seal(q question, shape, version uint64) {
	a.scope, a.gaps, a.shape, a.version = q.scope, q.gaps, shape, version
	h := xxh3.New()
	_, _ = fmt.Fprintf(h, "%s %d %d ", a.contentType, a.page, a.pages)
	_, _ = h.Write(a.body) // hashes take everything
	sum := h.Sum128().Bytes()
	a.etag = hex.EncodeToString(sum[:])
	a.header = answerHeader{contentType: []string{a.contentType}, etag: []string{`W/"` + a.etag + `"`}, cacheControl: briefly}
	if a.cacheControl != "" {
		a.header.cacheControl = []string{a.cacheControl}
	}
	if a.paged {
		a.header.number = []string{strconv.Itoa(a.page)}
		a.header.count = []string{strconv.Itoa(a.pages)}
	}
	a.forms[identity].Store(&form{body: a.body, length: []string{strconv.Itoa(len(a.body))}})
}

// holds says whether the answer is still what would be answered now.
func (a *answer) holds(shape, version uint64, now time.Time) bool {
	return a.shape == shape && a.version == version && (a.until.IsZero() || now.Before(a.until))
}

func (a *answer) weight() uint32 {
	w := 1024 // the struct and its header values, roughly
	for i := range a.forms {
		if f := a.forms[i].Load(); f != nil {
			w += len(f.body)
		}
	}
	return uint32(min(w, math.MaxUint32))
}

// answers keeps answers, and which requests they answer, within a number of bytes.
type answers struct {
	byKey     *otter.Cache[string, *answer]
	byRequest *otter.Cache[requestKey, *shortcut]
	compress  *compressors
}

func newAnswers(size int64) (*answers, error) {
	byKey, err := otter.New(&otter.Options[string, *answer]{
		MaximumWeight: uint64(size - size/8),
		Weigher:       func(k string, a *answer) uint32 { return uint32(min(int64(a.weight())+int64(len(k)), math.MaxUint32)) },
	})
	if err != nil {
		return nil, fmt.Errorf("api: make the cache: %w", err)
	}
	byRequest, err := otter.New(&otter.Options[requestKey, *shortcut]{
		MaximumWeight: uint64(size / 8),
		Weigher:       func(k requestKey, c *shortcut) uint32 { return uint32(k.len() + c.len() + 256) }, // bounded by maxShortcut
	})
	if err != nil {
		return nil, fmt.Errorf("api: make the cache of requests: %w", err)
	}
	c, err := newCompressors()
	if err != nil {
		return nil, err
	}
	return &answers{byKey, byRequest, c}, nil
}

// form gives the answer in a coding, compressing it on the first demand; the plain one where that isn't worth it.
func (c *answers) form(key string, a *answer, k coding) *form {
	if f := a.forms[k].Load(); f != nil {
		return f
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if f := a.forms[k].Load(); f != nil {
		return f
	}
	plain := a.forms[identity].Load()
	f := plain
	if small := c.compress.compress(k, a.body, a.fixed); small != nil && len(small) < len(a.body) {
		f = &form{body: small, encoding: codingHeaders[k], length: []string{strconv.Itoa(len(small))}}
	}
	a.forms[k].Store(f)
	// Stored again, if it is still there, so that its new weight counts.
	c.byKey.ComputeIfPresent(key, func(old *answer) (*answer, otter.ComputeOp) {
		if old == a {
			return a, otter.WriteOp
		}
		return old, otter.CancelOp
	})
	return f
}

// ask gives the answer to a question: the kept one while it holds, else a new one. Those who ask the same at the same
// time wait for one answer.
func (s *Server) ask(ctx context.Context, q question) (*answer, error) {
	d := q.dir
	if d == nil {
		var err error
		if d, err = s.directory(ctx, directoryLife); err != nil {
			return nil, err
		}
	}
	// The version is read before the rows: a commit in between makes the answer look older than it is, never newer.
	version, shape := s.versionOf(d, q.scope), s.shapeOf(d, q.gaps)
	if a, ok := s.cache.byKey.GetIfPresent(q.key); ok && a.holds(shape, version, s.now()) {
		s.observe.hits.Inc()
		return a, nil
	}
	s.observe.misses.Inc()
	// The state is a part of the flight's name: who comes after a commit doesn't get an answer from before it.
	flight := fmt.Sprintf("%s\x00%x.%x.%x", q.key, shape, version, q.until.UnixNano())
	detached := context.WithoutCancel(ctx)
	ch := s.flights.DoChan(flight, func() (any, error) {
		a, err := s.build(detached, q)
		if err != nil {
			return nil, err
		}
		a.seal(q, shape, version)
		s.cache.byKey.Set(q.key, a)
		return a, nil
	})
	select {
	case r := <-ch:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*answer), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// build makes an answer when its turn comes. A panic in it is an error of this answer alone.
func (s *Server) build(ctx context.Context, q question) (a *answer, err error) {
	wait := time.NewTimer(queryWait)
	defer wait.Stop()
	select {
	case s.queries <- struct{}{}:
		defer func() { <-s.queries }()
	case <-wait.C:
		return nil, unavailable("Too many questions at once.", 1)
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	defer recovered(&err)
	if a, err = q.build(ctx); err != nil {
		return nil, err
	}
	if a.until.IsZero() {
		a.until = q.until
	}
	return a, nil
}

// recovered turns a panic into an error. What runs for several requests at once runs in a goroutine of its own, where a
// panic would end the process.
func recovered(err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
	}
}

// shapeOf is the state that an answer holds for, apart from the version of its numbers.
func (s *Server) shapeOf(d *directory, gaps bool) uint64 {
	if !gaps {
		return d.shape
	}
	return d.shape ^ s.missingNow().version
}

func (s *Server) versionOf(d *directory, scope string) uint64 {
	switch scope {
	case "":
		return 0
	case allMetrics:
		return d.version(s.store.Version)
	}
	return s.store.Version(scope)
}
