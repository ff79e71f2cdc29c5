package api

import (
	"fmt"
	"net/http"
	"testing"
)

// BenchmarkDatagrepper_Page answers a page of 100 messages of a small archive, a different one every time, as a backfill
// asks for them; an iteration is one page.
func BenchmarkDatagrepper_Page(b *testing.B) {
	s := eventServer(b, 1000)
	i := 0
	for b.Loop() {
		i++
		path := fmt.Sprintf("/datagrepper/raw?rows_per_page=100&order=asc&start=%d&end=%d.%06d", eventTime(i%800), eventTime(i%800+120), i)
		if w := get(s, http.MethodGet, path); w.Code != http.StatusOK {
			b.Fatal(w.Code)
		}
	}
}
