package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// compatCase is a request to the original with the answer it gave, or the one we give instead where we differ on
// purpose. The rows were computed from the same events by another program.
type compatCase struct {
	Name        string           `json:"name"`
	Method      string           `json:"method"`
	Path        string           `json:"path"`
	Accept      string           `json:"accept"`
	Status      int              `json:"status"`
	ContentType string           `json:"content_type"`
	Number      string           `json:"x_link_number"`
	Count       string           `json:"x_link_count"`
	Link        *string          `json:"link"`
	Rows        []map[string]any `json:"rows"`
	RowCount    *int             `json:"row_count"`
	Text        string           `json:"text"`
	Callback    string           `json:"callback"`
}

func TestCompat_AnswersLikeTheOriginal(t *testing.T) {
	s := newTestServer(t, Options{Store: compatStore(t)})
	for _, line := range lines(t, "testdata/compat/requests.jsonl") {
		var c compatCase
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatal(err)
		}
		t.Run(c.Name, func(t *testing.T) {
			var headers []string
			if c.Accept != "-" {
				headers = []string{"Accept", c.Accept}
			}
			// Asked twice: the second answer comes by the shortcut and must be the same.
			first := get(s, c.Method, "http://HOST"+c.Path, headers...)
			w := get(s, c.Method, "http://HOST"+c.Path, headers...)
			if w.Code != first.Code || w.Body.String() != first.Body.String() || !reflect.DeepEqual(w.Header(), first.Header()) {
				t.Errorf("asked again: %d %v\nfirst %d %v", w.Code, w.Header(), first.Code, first.Header())
			}
			if w.Code != c.Status {
				t.Fatalf("status %d, want %d: %s", w.Code, c.Status, w.Body)
			}
			h := w.Header()
			if got := h.Get("Content-Type"); c.Status != http.StatusPermanentRedirect && got != c.ContentType {
				t.Errorf("content type %q, want %q", got, c.ContentType)
			}
			if h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Expose-Headers") != "Link, X-Link-Number, X-Link-Count" {
				t.Errorf("no CORS: %v", h)
			}
			if h.Get("X-Link-Number") != c.Number || h.Get("X-Link-Count") != c.Count {
				t.Errorf("page %q of %q, want %q of %q", h.Get("X-Link-Number"), h.Get("X-Link-Count"), c.Number, c.Count)
			}
			if c.Link != nil && h.Get("Link") != *c.Link {
				t.Errorf("link\n     %s\nwant %s", h.Get("Link"), *c.Link)
			}
			checkCompatBody(t, c, w.Body.String())
		})
	}
}

func checkCompatBody(t *testing.T, c compatCase, body string) {
	t.Helper()
	if c.Text != "" && normal(t, c, body) != normal(t, c, c.Text) {
		t.Errorf("body\n%s\nwant\n%s", body, c.Text)
	}
	if c.RowCount == nil {
		return
	}
	if c.Callback != "" {
		inner, ok := strings.CutPrefix(body, "/**/"+c.Callback+"(")
		if !ok || !strings.HasSuffix(inner, ")") {
			t.Fatalf("not a call of %s: %s", c.Callback, body)
		}
		body = strings.TrimSuffix(inner, ")")
	}
	var rows []map[string]any
	if err := json.Unmarshal([]byte(body), &rows); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if len(rows) != *c.RowCount {
		t.Fatalf("%d rows, want %d", len(rows), *c.RowCount)
	}
	if len(rows) > 5 { // of long pages the first two and the last
		rows = append(rows[:2:2], rows[len(rows)-1])
	}
	for i, r := range rows {
		if m, ok := r["message"].(string); ok {
			r["message"] = compact(t, m)
			c.Rows[i]["message"] = compact(t, c.Rows[i]["message"].(string))
		}
		if !reflect.DeepEqual(r, c.Rows[i]) {
			t.Errorf("row %d\n     %v\nwant %v", i, r, c.Rows[i])
		}
	}
}

// compact brings JSON text into one form.
func compact(t *testing.T, s string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatalf("%v in %s", err, s)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// normal brings the messages inside of CSV into one form.
func normal(t *testing.T, c compatCase, s string) string {
	if !strings.Contains(c.Path, releng) {
		return s
	}
	return strings.NewReplacer(`"": "`, `"":"`, `, ""`, `,""`, `"": null`, `"":null`).Replace(s)
}
