package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// RefusedError says why a question got no answer.
type RefusedError struct {
	Status int // of HTTP
	Detail string
}

func (e *RefusedError) Error() string { return e.Detail }

// Answer answers a GET without a network: path is the URL's, escaped. It gives the JSON, or a RefusedError.
func (s *Server) Answer(ctx context.Context, path string, query url.Values) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", path, err)
	}
	w := &kept{header: http.Header{}}
	s.ServeHTTP(w, r)
	if w.status == http.StatusOK {
		return w.body.Bytes(), nil
	}
	var p problem
	if err := json.Unmarshal(w.body.Bytes(), &p); err != nil || p.Detail == "" {
		p.Detail = http.StatusText(w.status)
	}
	return nil, &RefusedError{w.status, p.Detail}
}

// kept is a response that stays here.
type kept struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (k *kept) Header() http.Header         { return k.header }
func (k *kept) WriteHeader(status int)      { k.status = status }
func (k *kept) Write(p []byte) (int, error) { return k.body.Write(p) }
