package api

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
)

// Header values that many responses share. They are hung into responses as they are and never changed.
var (
	anyOrigin    = []string{"*"}
	exposeRows   = []string{"Link, X-Link-Number, X-Link-Count"}                    // as the original
	exposeAll    = []string{"Link, X-Link-Number, X-Link-Count, ETag, Retry-After"} // /api/v1
	noSniff      = []string{"nosniff"}
	varyHeader   = []string{"Accept, Accept-Encoding"}
	allowMethods = []string{"GET, HEAD, OPTIONS"}
	// A second is how often an answer may change; old ones are better than none while we are away.
	briefly = []string{"public, max-age=1, stale-if-error=86400"}
)

// crossOrigin lets every site read every answer, errors too; there is nothing private here.
func crossOrigin(h http.Header, u *url.URL) {
	h["Access-Control-Allow-Origin"] = anyOrigin
	if strings.HasPrefix(u.Path, "/api/v1") {
		h["Access-Control-Expose-Headers"] = exposeAll
	} else {
		h["Access-Control-Expose-Headers"] = exposeRows
	}
	h["X-Content-Type-Options"] = noSniff
}

// acceptHeader gives all Accept headers as one.
func acceptHeader(r *http.Request) string { return joined(r.Header["Accept"]) }

func joined(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	return strings.Join(values, ",")
}

// send answers with an answer and remembers which request it was for.
func (s *Server) send(c echo.Context, key string, a *answer, pairs []pair) error {
	r := c.Request()
	sc := &shortcut{
		key: key, pages: a.pages, coding: codingOf(joined(r.Header["Accept-Encoding"])),
		ok: s.observe.request(c.Path(), http.StatusOK), notModified: s.observe.request(c.Path(), http.StatusNotModified),
	}
	if a.paged {
		if l := pageLinks(s.origin(r), r.URL, pairs, a.page, a.pages); l != "" {
			sc.link = []string{l}
		}
	}
	if a.next != "" {
		u := *r.URL
		q := u.Query()
		q.Set("cursor", a.next)
		u.RawQuery = q.Encode()
		sc.link = []string{"<" + s.origin(r) + u.RequestURI() + `>; rel="next"`}
	}
	s.cache.remember(r, sc)
	writeAnswer(c.Response(), r, a, s.cache.form(key, a, sc.coding), sc.link)
	return nil
}

// writeAnswer gives the status it answered with.
func writeAnswer(w http.ResponseWriter, r *http.Request, a *answer, f *form, link []string) int {
	h := w.Header()
	h["Content-Type"] = a.header.contentType
	h["Cache-Control"] = a.header.cacheControl
	h["Etag"] = a.header.etag
	h["Vary"] = varyHeader
	for _, m := range a.more {
		h[m.name] = m.values
	}
	if a.paged {
		h["X-Link-Number"] = a.header.number
		h["X-Link-Count"] = a.header.count
	}
	if link != nil {
		h["Link"] = link
	}
	if known := r.Header["If-None-Match"]; known != nil && matches(known, a.etag) {
		w.WriteHeader(http.StatusNotModified)
		return http.StatusNotModified
	}
	h["Content-Length"] = f.length
	if f.encoding != nil {
		h["Content-Encoding"] = f.encoding
	}
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(f.body) // a client that has gone is no concern of ours
	}
	return http.StatusOK
}

// matches compares weakly, as If-None-Match wants it.
func matches(headers []string, etag string) bool {
	for _, header := range headers {
		for tag := range strings.SplitSeq(header, ",") {
			tag = strings.TrimSpace(tag)
			if tag == "*" {
				return true
			}
			tag = strings.TrimPrefix(tag, "W/")
			if len(tag) == len(etag)+2 && tag[0] == '"' && tag[len(tag)-1] == '"' && tag[1:len(tag)-1] == etag {
				return true
			}
		}
	}
	return false
}

// requestKey is everything of a request that its whole response depends on.
type requestKey struct {
	uri, host, accept, encoding string
	tls                         bool
}

func (k requestKey) len() int { return len(k.uri) + len(k.host) + len(k.accept) + len(k.encoding) }

// maxShortcut bounds what is remembered of a request: longer ones take the long way.
const maxShortcut = 2048

// shortcut is how a request was answered: which answer in which coding, with which links. It refers to the answer by
// its key, so that it keeps no old one alive.
type shortcut struct {
	key             string
	pages           int // the answer's when the links were made
	coding          coding
	link            []string
	ok, notModified prometheus.Observer
}

func (c *shortcut) len() int {
	n := len(c.key)
	for _, l := range c.link {
		n += len(l)
	}
	return n
}

// requestKeyOf gives false for requests that take the long way.
func requestKeyOf(r *http.Request) (requestKey, bool) {
	accept, encoding := r.Header["Accept"], r.Header["Accept-Encoding"]
	if len(accept) > 1 || len(encoding) > 1 || (r.Method != http.MethodGet && r.Method != http.MethodHead) {
		return requestKey{}, false
	}
	k := requestKey{uri: r.RequestURI, host: r.Host, tls: r.TLS != nil}
	if len(accept) == 1 {
		k.accept = accept[0]
	}
	if len(encoding) == 1 {
		k.encoding = encoding[0]
	}
	return k, k.uri != "" && k.len() <= maxShortcut
}

func (c *answers) remember(r *http.Request, sc *shortcut) {
	if k, ok := requestKeyOf(r); ok && sc.len() <= 2*maxShortcut {
		c.byRequest.Set(k, sc)
	}
}

// serveShortcut answers a request that was answered before in the same words, if the answer still holds. It parses
// nothing, allocates next to nothing and asks the store for a version only.
func (s *Server) serveShortcut(w http.ResponseWriter, r *http.Request) bool {
	k, ok := requestKeyOf(r)
	if !ok {
		return false
	}
	sc, ok := s.cache.byRequest.GetIfPresent(k)
	if !ok {
		return false
	}
	now := s.now()
	d := s.catalog.current.Load()
	if !d.fresh(now, directoryLife) {
		return false
	}
	a, ok := s.cache.byKey.GetIfPresent(sc.key)
	if !ok || a.pages != sc.pages || !a.holds(s.shapeOf(d, a.gaps), s.versionOf(d, a.scope), now) {
		return false
	}
	f := a.forms[sc.coding].Load()
	if f == nil {
		return false
	}
	begin := s.observe.clock()
	s.observe.hits.Inc()
	crossOrigin(w.Header(), r.URL)
	took := sc.ok
	if writeAnswer(w, r, a, f, sc.link) == http.StatusNotModified {
		took = sc.notModified
	}
	took.Observe(s.observe.clock().Sub(begin).Seconds())
	return true
}
