package web

import (
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

// tile is one thing on a board.
type tile struct {
	Name, About, State, Tone, Subject, Link string
	Time                                    time.Time
	Known, Old                              bool
}

type tileGroup struct {
	Name  string
	Tiles []tile
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
		t := tileOf(row.Value, row.Time, l)
		if old := l.age(); old > 0 {
			t.Old = w.now().Sub(row.Time) > old
		}
		first, rest := boardID(m, row.Key)
		t.Name, t.About = first, rest
		known[first] = append(known[first], t)
	}
	var groups []tileGroup
	for _, g := range l.Groups {
		out := tileGroup{Name: g.Name}
		if out.Name == "" {
			out.Name = g.ID
		}
		for _, c := range g.Components {
			tiles := known[c.ID]
			delete(known, c.ID)
			if len(tiles) == 0 {
				tiles = []tile{{Name: c.ID}}
			}
			for _, t := range tiles {
				if c.Name != "" {
					t.Name = c.Name
				}
				out.Tiles = append(out.Tiles, t)
			}
		}
		groups = append(groups, out)
	}
	rest := tileGroup{Name: "others"} // what the layout doesn't name is news all the same
	for _, name := range slices.Sorted(maps.Keys(known)) {
		rest.Tiles = append(rest.Tiles, known[name]...)
	}
	if len(rest.Tiles) > 0 {
		groups = append(groups, rest)
	}
	return w.render(r, "board", m.Title(), struct {
		Metric metric
		Groups []tileGroup
		AsOf   time.Time
	}{m, groups, rows.AsOf})
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

// tileOf reads what a value says: the fields that the layouts of the original know.
func tileOf(value json.RawMessage, at time.Time, l layout) tile {
	var v struct{ Name, Status, Link, URL string }
	t := tile{Time: at, Known: true}
	if json.Unmarshal(value, &v) != nil {
		return t
	}
	tones := map[string]string{"text-danger": "bad", "text-warning": "warn", "text-primary": "good", "text-success": "good"}
	t.State, t.Tone, t.Subject = v.Status, tones[l.Default.Classes[v.Status]], v.Name
	if verb := l.Default.Verbs[v.Status]; verb != "" {
		t.State = verb
	}
	if v.Link == "" {
		v.Link = v.URL
	}
	if u, err := url.Parse(v.Link); err == nil && (u.Scheme == "https" || u.Scheme == "http") {
		t.Link = v.Link
	}
	return t
}
