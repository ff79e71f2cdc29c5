package api

import (
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestExamples_GrafanaAsksWhatIsAnswered sends what the panels of the dashboard ask, as Grafana would.
func TestExamples_GrafanaAsksWhatIsAnswered(t *testing.T) {
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct {
				URL     string
				Root    string `json:"root_selector"`
				Columns []struct{ Selector string }
			}
		}
	}
	body, err := os.ReadFile("../examples/grafana/dashboard.json")
	if err != nil || json.Unmarshal(body, &dashboard) != nil || len(dashboard.Panels) == 0 {
		t.Fatalf("no dashboard: %v", err)
	}
	s := newTestServer(t, Options{Store: liveStore(t), Now: time.Now})
	milliseconds := func(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
	grafana := strings.NewReplacer("${statscache}", "", "${__from}", milliseconds(time.Now().AddDate(0, 0, -2)), "${__to}", milliseconds(time.Now()), "$__maxDataPoints", "500")
	for _, p := range dashboard.Panels {
		for _, q := range p.Targets {
			w := get(s, http.MethodGet, grafana.Replace(q.URL))
			var answer any
			if w.Code != http.StatusOK || json.Unmarshal(w.Body.Bytes(), &answer) != nil {
				t.Errorf("%s: %d %s", p.Title, w.Code, w.Body)
				continue
			}
			if q.Root != "" {
				rows, _ := answer.(map[string]any)[q.Root].([]any)
				if len(rows) == 0 {
					t.Errorf("%s: no %s in %s", p.Title, q.Root, w.Body)
					continue
				}
				answer = rows[0]
			}
			for _, c := range q.Columns {
				v := answer
				for name := range strings.SplitSeq(c.Selector, ".") {
					of, _ := v.(map[string]any)
					v = of[name]
				}
				if v == nil {
					t.Errorf("%s: no %s in %v", p.Title, c.Selector, answer)
				}
			}
		}
	}
}
