package api

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// Waiting answers in place of the API while the process has no store to read from yet: how it does, and 503 to all else.
func Waiting(status func() Status) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, _ *http.Request) { writeAdmin(w, http.StatusOK, status()) })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		p := unavailable("The store does not answer yet.", 2)
		body, _ := json.Marshal(p) // strings and numbers only: it can't fail
		h := w.Header()
		h.Set("Content-Type", "application/problem+json")
		h.Set("Cache-Control", "no-store")
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
		w.WriteHeader(p.Status)
		_, _ = w.Write(append(body, '\n'))
	})
	return mux
}
