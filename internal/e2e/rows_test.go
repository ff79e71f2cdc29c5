package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// farStop shows open windows too: 2100-01-01.
const farStop = "4102444800"

// status is the part of /api/v1/status that the tests look at.
type status struct {
	Owned   int64 `json:"owned"`
	Journal struct {
		Bytes int64 `json:"bytes"`
		Limit int64 `json:"limit"`
	} `json:"journal"`
	Endpoints []struct {
		Name     string `json:"name"`
		Address  string `json:"address"`
		State    string `json:"state"`
		Received int64  `json:"received"`
		Rejected int64  `json:"rejected"`
	} `json:"endpoints"`
	Plugins []struct {
		ID          string `json:"id"`
		State       string `json:"state"`
		Lag         int64  `json:"lag"`
		Restarts    int64  `json:"restarts"`
		DeadLetters int64  `json:"dead_letters"`
	} `json:"plugins"`
}

func (d *daemon) status() (status, error) {
	var s status
	code, body, err := get("http://" + d.api + "/api/v1/status")
	if err != nil {
		return s, err
	}
	if code != 200 {
		return s, fmt.Errorf("/api/v1/status says %d: %s", code, body)
	}
	return s, json.Unmarshal([]byte(body), &s)
}

// waitCounted waits until at least this many events are owned since the start and every plugin has counted all of them.
func (d *daemon) waitCounted(events int64, within time.Duration) status {
	d.t.Helper()
	var s status
	d.waitFor(within, fmt.Sprintf("%d events owned and counted", events), func() (err error) {
		if s, err = d.status(); err != nil {
			return err
		}
		if s.Owned < events {
			return fmt.Errorf("%d events owned", s.Owned)
		}
		if err = s.caughtUp(); err == nil {
			if n := d.total("volume-1m", ""); n < events {
				err = fmt.Errorf("%d events counted", n)
			}
		}
		return err
	})
	return s
}

// waitCaughtUp waits until every plugin has counted all that is archived.
func (d *daemon) waitCaughtUp(within time.Duration) {
	d.t.Helper()
	d.waitFor(within, "plugins caught up", func() error {
		s, err := d.status()
		if err != nil {
			return err
		}
		return s.caughtUp()
	})
}

func (s status) caughtUp() error {
	if len(s.Plugins) == 0 {
		return errors.New("no plugin runs")
	}
	for _, p := range s.Plugins {
		if p.State != "disabled" && (p.State != "running" || p.Lag != 0) {
			return fmt.Errorf("plugin %s is %s and lags by %d", p.ID, p.State, p.Lag)
		}
	}
	return nil
}

// nextLink finds the address of the next page in a Link header.
var nextLink = regexp.MustCompile(`<([^>]*)>;\s*rel="next"`)

// rows gets all rows of an ident as CSV, ascending, page by page. Lines of the header are kept once.
func (d *daemon) rows(ident string, perPage int) string {
	d.t.Helper()
	return d.rowsUntil(ident, farStop, perPage)
}

// rowsUntil is rows without those after a time, in seconds since 1970.
func (d *daemon) rowsUntil(ident, stop string, perPage int) string {
	d.t.Helper()
	query := url.Values{"order": {"asc"}, "stop": {stop}, "rows_per_page": {strconv.Itoa(perPage)}}
	next := "http://" + d.api + "/api/" + ident + "?" + query.Encode()
	var b strings.Builder
	for page := 1; ; page++ {
		code, header, body, err := fetch(next, "Accept", "text/csv")
		if err != nil {
			d.t.Fatal(err)
		}
		if code != 200 {
			d.t.Fatalf("GET %s: %d: %s", next, code, body)
		}
		if number := header.Get("X-Link-Number"); number != strconv.Itoa(page) {
			d.t.Errorf("%s: X-Link-Number of page %d is %q", ident, page, number)
		}
		if page > 1 {
			_, body, _ = strings.Cut(body, "\n")
		}
		b.WriteString(body)
		match := nextLink.FindStringSubmatch(header.Get("Link"))
		if match == nil {
			return b.String()
		}
		next = match[1]
	}
}

// total adds up the volume of an ident's rows; key selects those of one value of the dimension, "" all.
func (d *daemon) total(ident, key string) int64 {
	d.t.Helper()
	lines := strings.Split(strings.TrimSuffix(d.rows(ident, 1_000_000), "\n"), "\n")
	header := strings.Split(lines[0], ",")
	var sum int64
	for _, line := range lines[1:] {
		// Only idents whose values need no quotes are added up.
		fields := strings.Split(line, ",")
		if len(fields) != len(header) {
			d.t.Fatalf("%s: a row of %d columns under the header %q: %q", ident, len(fields), lines[0], line)
		}
		wanted := key == ""
		var volume int64
		for i, name := range header {
			switch name {
			case "volume":
				n, err := strconv.ParseInt(fields[i], 10, 64)
				if err != nil {
					d.t.Fatalf("%s: %v", ident, err)
				}
				volume = n
			case "timestamp":
			default:
				wanted = wanted || fields[i] == key
			}
		}
		if wanted {
			sum += volume
		}
	}
	return sum
}

// metric reads the Prometheus text: the sum of a metric's samples that carry all the labels, given as name="value".
func (d *daemon) metric(name string, labels ...string) (float64, error) {
	code, body, err := get("http://" + d.admin + "/metrics")
	if err != nil {
		return 0, err
	}
	if code != 200 {
		return 0, fmt.Errorf("/metrics says %d", code)
	}
	return sample(body, name, labels...)
}

func sample(text, name string, labels ...string) (float64, error) {
	var sum float64
lines:
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || (rest[0] != '{' && rest[0] != ' ') {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(rest, label) {
				continue lines
			}
		}
		at := strings.LastIndexByte(strings.TrimSpace(rest), ' ')
		value, err := strconv.ParseFloat(strings.TrimSpace(rest)[at+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("sample %q: %w", line, err)
		}
		sum += value
	}
	return sum, nil
}
