package web

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// layout is how a plugin wants its latest values to be shown.
type layout struct {
	Groups []struct {
		ID, Name   string
		Components []struct{ ID, Name string }
	}
	Default struct {
		Verbs   map[string]string `json:"status_verb_map"`
		Classes map[string]string `json:"status_class_map"`
		Old     struct {
			Value float64
			Key   string
		} `json:"old_log_threshold"`
	} `json:"default_options"`
}

// tile is one thing on a board: its newest message.
type tile struct {
	Subject, Extra, State, Tone, Link string
	Time                              time.Time
	Old                               bool
}

// box is a component of a layout: all things of one kind.
type box struct {
	Name, Tone string
	Rows       []tile
}

type boxGroup struct {
	Name  string
	Boxes []box
}

// board is GET /web/board/{ident}: what the layout of a metric of latest values names, each with its newest message.
func (w *Web) board(ctx context.Context, r Request) (Reply, error) {
	m, _, err := w.find(ctx, r.Param)
	if err != nil {
		return Reply{}, err
	}
	if !m.Latest() {
		return Reply{}, refuse(http.StatusNotFound, "%s counts: it has no board. Its page is /web/dashboard/%s.", m.ID, url.PathEscape(m.ID))
	}
	var rows latestRows
	if err := w.fetch(ctx, &rows, about(m.ID, "latest"), nil); err != nil {
		return Reply{}, err
	}
	var l layout
	if err := w.fetch(ctx, &l, "/api/"+url.PathEscape(m.Idents[0])+"/layout", nil); err != nil && !missing(err) {
		return Reply{}, err
	}
	known := map[string][]tile{} // by what layouts name: the first part of the key
	for _, row := range rows.Rows {
		first, rest := boardID(m, row.Key)
		t := tileOf(row.Value, row.Time, rest, l)
		if old := l.age(); old > 0 {
			t.Old = w.now().Sub(row.Time) > old
		}
		known[first] = append(known[first], t)
	}
	return w.render(r, "board", m.Title(), struct {
		Metric   metric
		Messages int
		Groups   []boxGroup
		AsOf     time.Time
	}{m, len(rows.Rows), l.boxes(known), rows.AsOf})
}

// boxes puts what is known where the layout wants it. What it doesn't name is news all the same.
func (l layout) boxes(known map[string][]tile) []boxGroup {
	var groups []boxGroup
	for _, g := range l.Groups {
		out := boxGroup{Name: g.Name}
		if out.Name == "" {
			out.Name = g.ID
		}
		seen := map[string]bool{}
		for _, c := range g.Components {
			b := newBox(c.Name, known[c.ID])
			if c.Name == "" || seen[c.Name] { // two of one name can't be told apart
				b.Name = strings.TrimSpace(c.Name + " " + c.ID)
			}
			seen[c.Name] = true
			delete(known, c.ID)
			out.Boxes = append(out.Boxes, b)
		}
		groups = append(groups, out)
	}
	rest := boxGroup{Name: "others"}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		rest.Boxes = append(rest.Boxes, newBox(name, known[name]))
	}
	if len(rest.Boxes) > 0 {
		groups = append(groups, rest)
	}
	return groups
}

// newBox has the tone of the worst that is in it and isn't old.
func newBox(name string, rows []tile) box {
	b := box{Name: name, Rows: rows}
	order := []string{"", "good", "warn", "bad"}
	for _, r := range rows {
		if !r.Old && slices.Index(order, r.Tone) > slices.Index(order, b.Tone) {
			b.Tone = r.Tone
		}
	}
	return b
}

// boardID parts a key into what a layout names and what else there is.
func boardID(m metric, key map[string]string) (first, rest string) {
	parts := make([]string, len(m.Dimensions))
	for i, d := range m.Dimensions {
		parts[i] = key[d.Name]
	}
	if len(parts) == 0 {
		return "", ""
	}
	return parts[0], strings.Join(parts[1:], " · ")
}

// age is how old a message may be before it counts as forgotten.
func (l layout) age() time.Duration {
	units := map[string]time.Duration{"seconds": time.Second, "minutes": time.Minute, "hours": time.Hour, "days": 24 * time.Hour}
	return time.Duration(l.Default.Old.Value * float64(units[l.Default.Old.Key]))
}

// tileOf reads what a value says of a thing: the fields that the layouts of the original know.
func tileOf(value json.RawMessage, at time.Time, thing string, l layout) tile {
	var v struct {
		Name, Status, Link, URL string
		ExtraText               string `json:"extra_text"`
		ExtraLink               string `json:"extra_link"`
	}
	t := tile{Time: at, Subject: thing}
	if json.Unmarshal(value, &v) != nil {
		return t
	}
	// Layouts write states in small letters, messages sometimes in capitals.
	said := func(words map[string]string) string { return cmp.Or(words[v.Status], words[strings.ToLower(v.Status)]) }
	tones := map[string]string{"text-danger": "bad", "text-warning": "warn", "text-primary": "good", "text-success": "good"}
	t.State, t.Tone = cmp.Or(said(l.Default.Verbs), strings.ToLower(v.Status)), tones[said(l.Default.Classes)]
	if t.Subject == "" || strings.EqualFold(v.Name, t.Subject) {
		t.Subject = v.Name
	}
	if t.Extra = v.ExtraText; v.ExtraText == "(details)" { // the label of a link that isn't followed here
		t.Extra = ""
	}
	for _, link := range []string{v.Link, v.URL, v.ExtraLink} {
		if u, err := url.Parse(link); err == nil && (u.Scheme == "https" || u.Scheme == "http") {
			t.Link = link
			break
		}
	}
	return t
}
