package api

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// origin is where this request's links start: the configured address, or what the request itself says. A Host that
// isn't one gives none, and links stay relative.
func (s *Server) origin(r *http.Request) string {
	if s.base != "" {
		return s.base
	}
	if !plainHost(r.Host) {
		return ""
	}
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// plainHost allows names, addresses and ports: nothing that could end a URL inside of a header.
func plainHost(h string) bool {
	if h == "" || len(h) > 255 {
		return false
	}
	for i := range len(h) {
		c := h[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(".-_:[]", rune(c)) {
			return false
		}
	}
	return true
}

// pageLinks is the Link header of a page, empty where there is nothing to link to. All parameters are kept, in their
// order, escaped anew.
func pageLinks(origin string, u *url.URL, pairs []pair, page, pages int) string {
	var q strings.Builder
	for _, kv := range pairs {
		if kv.name != "page" {
			q.WriteString(url.QueryEscape(kv.name))
			q.WriteByte('=')
			q.WriteString(url.QueryEscape(kv.value))
			q.WriteByte('&')
		}
	}
	to := func(n int, rel string) string {
		return "<" + origin + u.EscapedPath() + "?" + q.String() + "page=" + strconv.Itoa(n) + `>; rel="` + rel + `"`
	}
	var links []string
	if page > 1 {
		links = append(links, to(page-1, "previous"))
	}
	if page < pages {
		links = append(links, to(page+1, "next"))
	}
	return strings.Join(links, ", ")
}
