package web

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
)

//go:embed static
var staticFS embed.FS

// The files that pages need.
var webFiles = map[string]string{ // immutable
	"style.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml",
}

const scriptType = "text/javascript; charset=utf-8"

func (w *Web) loadFiles() error {
	w.files = map[string]Reply{}
	for name, kind := range webFiles {
		body, err := staticFS.ReadFile("static/" + name)
		if err != nil {
			return fmt.Errorf("web: %w", err)
		}
		r := Reply{Body: body, ContentType: kind, CacheControl: asks, Fixed: true}
		if kind == "image/svg+xml" {
			r.Policy = "default-src 'none'"
		}
		w.files[name] = r
	}
	body, err := staticFS.ReadFile("static/statscache.js")
	if err != nil {
		return fmt.Errorf("web: %w", err)
	}
	sum := sha256.Sum256(body)
	w.script = "statscache-" + hex.EncodeToString(sum[:8]) + ".js"
	r := Reply{Body: body, ContentType: scriptType, CacheControl: "public, max-age=300, stale-while-revalidate=86400", Extra: [][2]string{crossSite}, Fixed: true}
	w.files["statscache.js"] = r
	r.CacheControl = forEver
	w.files[w.script] = r
	return nil
}

// integrity is what a page writes beside the name of the script that never changes.
func (w *Web) integrity() string {
	sum := sha512.Sum384(w.files[w.script].Body)
	return "sha384-" + base64.StdEncoding.EncodeToString(sum[:])
}

// webFile is GET /web/{file}.
func (w *Web) webFile(_ context.Context, r Request) (Reply, error) {
	if _, ok := webFiles[r.Param]; !ok {
		return Reply{}, refuse(http.StatusNotFound, "There is no page %q here.", cut(r.Param, 100))
	}
	return w.files[r.Param], nil
}

// widgetScript is GET /widgets/v1/{script}.
func (w *Web) widgetScript(_ context.Context, r Request) (Reply, error) {
	if r.Param != "statscache.js" && r.Param != w.script {
		return Reply{}, refuse(http.StatusNotFound, "There is no such script any more; /widgets/v1/statscache.js always is.")
	}
	return w.files[r.Param], nil
}

// cut shortens a text for a message.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 { // not inside of a letter
		n--
	}
	return s[:n] + "…"
}
