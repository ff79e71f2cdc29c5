// Package datagrepper brings history in from an archive that speaks datagrepper's protocol.
package datagrepper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// rowsPerPage is the most that datagrepper gives.
	rowsPerPage = 100
	// maxPageBytes bounds an answer, unpacked.
	maxPageBytes = 128 << 20
	// requestTimeout bounds a request as a whole: some windows take an archive long, then a smaller one is asked for.
	requestTimeout = 90 * time.Second
)

// errors of a request that the fetcher tells apart.
var (
	// errRefused is an answer that another attempt would not change.
	errRefused = errors.New("the archive refuses")
	errGone    = fmt.Errorf("%w: not found", errRefused)
)

// throttled is an archive's wish to be left alone.
type throttled struct {
	status string
	wait   time.Duration // 0 where it doesn't say how long
}

func (t throttled) Error() string { return "the archive answers " + t.status }

// page is an answer.
type page struct {
	Messages []json.RawMessage `json:"raw_messages"`
	Total    *int              `json:"total"`
	Pages    int               `json:"pages"`
}

// client asks one archive.
type client struct {
	base  *url.URL
	http  *http.Client
	agent string
	now   func() time.Time
	// guessed says that the path's end is ours, not the operator's: datagrepper's v1 and v2 have different ones.
	guessed bool
}

func newClient(o *Options) (*client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return nil, fmt.Errorf("the archive's URL must be an http or https URL, not %q", redact(o.URL))
	}
	u.Fragment = ""
	u.Path = strings.TrimRight(u.Path, "/")
	c := &client{base: u, http: o.HTTP, agent: o.UserAgent, now: o.Now}
	if !strings.HasSuffix(u.Path, "/raw") && !strings.HasSuffix(u.Path, "/search") {
		u.Path, c.guessed = u.Path+"/raw", true
	}
	return c, nil
}

func redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(not a URL)"
	}
	return u.Redacted()
}

// Local says whether an archive is on this machine.
func Local(archive string) bool {
	u, err := url.Parse(archive)
	if err != nil {
		return false
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// page asks for one page of a span, both ends included.
func (c *client) page(ctx context.Context, s Span, number int) (*page, error) {
	p, err := c.ask(ctx, s, number)
	if errors.Is(err, errGone) && c.guessed && strings.HasSuffix(c.base.Path, "/raw") {
		c.base.Path = strings.TrimSuffix(c.base.Path, "/raw") + "/v2/search"
		if p, err = c.ask(ctx, s, number); err != nil && errors.Is(err, errGone) {
			c.base.Path = strings.TrimSuffix(c.base.Path, "/v2/search") + "/raw"
		}
	}
	if err == nil {
		c.guessed = false
	}
	return p, err
}

func (c *client) ask(ctx context.Context, s Span, number int) (*page, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	u := *c.base
	q := u.Query()
	q.Set("start", strconv.FormatInt(s.From, 10))
	q.Set("end", strconv.FormatInt(s.To, 10))
	q.Set("page", strconv.Itoa(number))
	q.Set("rows_per_page", strconv.Itoa(rowsPerPage))
	q.Set("order", "asc")
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", errRefused, u.Redacted())
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.agent)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", u.Redacted(), bare(err))
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	if resp.StatusCode != http.StatusOK {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
		return nil, c.failure(resp, &u)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxPageBytes+1))
	if err != nil {
		return nil, fmt.Errorf("answer of %s: %w", u.Redacted(), err)
	}
	if len(text) > maxPageBytes {
		return nil, fmt.Errorf("answer of %s: longer than %d bytes", u.Redacted(), maxPageBytes)
	}
	var p page
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, fmt.Errorf("answer of %s: %w", u.Redacted(), err)
	}
	if p.Messages == nil || p.Total == nil || *p.Total < 0 {
		return nil, fmt.Errorf("answer of %s: no page of datagrepper's: raw_messages or total is missing", u.Redacted())
	}
	return &p, nil
}

// failure is what a status other than 200 means.
func (c *client) failure(resp *http.Response, u *url.URL) error {
	wait, told := c.retryAfter(resp.Header.Get("Retry-After"))
	switch code := resp.StatusCode; {
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable && told:
		return throttled{status: resp.Status, wait: wait}
	case code == http.StatusNotFound:
		return fmt.Errorf("%w: %s answers %s", errGone, u.Redacted(), resp.Status)
	case code >= 500, code == http.StatusRequestTimeout:
		return fmt.Errorf("%s answers %s", u.Redacted(), resp.Status)
	}
	return fmt.Errorf("%w: %s answers %s", errRefused, u.Redacted(), resp.Status)
}

// retryAfter reads the header: seconds or a date.
func (c *client) retryAfter(h string) (time.Duration, bool) {
	if h == "" {
		return 0, false
	}
	if n, err := strconv.ParseInt(strings.TrimSpace(h), 10, 32); err == nil {
		return max(time.Duration(n)*time.Second, 0), true
	}
	t, err := http.ParseTime(h)
	if err != nil {
		return 0, false
	}
	return max(t.Sub(c.now()), 0), true
}

// bare leaves out of an error the URL, which may hold a password.
func bare(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
