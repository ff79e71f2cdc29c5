package api

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

//go:embed start
var startFS embed.FS

// startFiles are what the start page needs beside itself.
var startFiles = map[string]bool{"start.css": true, "start.js": true, "start.svg": true} // immutable

// startPolicy lets the page use what we serve and nothing else, and lets no page frame it.
const startPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// startPage is what a newcomer sees first.
type startPage struct {
	template *template.Template
	files    map[string]*answer
}

func newStartPage() (*startPage, error) {
	t, err := template.ParseFS(startFS, "start/start.html")
	if err != nil {
		return nil, fmt.Errorf("api: start page: %w", err)
	}
	p := &startPage{template: t, files: make(map[string]*answer, len(startFiles))}
	for name := range startFiles {
		body, err := startFS.ReadFile("start/" + name)
		if err != nil {
			return nil, fmt.Errorf("api: start page: %w", err)
		}
		a := &answer{body: body, contentType: mime.TypeByExtension(path.Ext(name)), revalidate: true}
		a.seal("", 0, 0)
		p.files[name] = a
	}
	return p, nil
}

// startView is what the page is drawn from.
type startView struct {
	Status          Status
	Idents          []string
	Metrics         int
	Away            bool   // the store can't be read
	Base            string // of the example URLs
	Started, Uptime string
}

// page draws the page with all that is known now: it is whole without a script.
func (p *startPage) page(s *Server) echo.HandlerFunc {
	return func(c echo.Context) error {
		view := startView{Status: s.status(), Base: s.origin(c.Request())}
		if view.Status.Plugins == nil {
			view.Status.Plugins = s.pluginList()
		}
		if t := view.Status.Started; !t.IsZero() {
			view.Started = t.UTC().Format(time.RFC3339)
			view.Uptime = s.now().Sub(t).Truncate(time.Second).String()
		}
		if d, err := s.directory(c.Request().Context(), directoryLife); err != nil {
			view.Away = true // the page says so; it is there to say such things
		} else {
			view.Idents, view.Metrics = d.names, len(d.metrics)
		}
		var b bytes.Buffer
		if err := p.template.Execute(&b, view); err != nil {
			return fmt.Errorf("draw the start page: %w", err)
		}
		h := c.Response().Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", startPolicy)
		h.Set("Referrer-Policy", "no-referrer")
		h["Cache-Control"] = always
		h.Set("Content-Length", strconv.Itoa(b.Len()))
		c.Response().WriteHeader(http.StatusOK)
		if c.Request().Method != http.MethodHead {
			_, _ = c.Response().Write(b.Bytes())
		}
		return nil
	}
}

func (p *startPage) file(name string) echo.HandlerFunc {
	return func(c echo.Context) error {
		a := p.files[name]
		if strings.HasSuffix(name, ".svg") {
			c.Response().Header().Set("Content-Security-Policy", "default-src 'none'")
		}
		writeAnswer(c.Response(), c.Request(), a, a.forms[identity].Load(), nil)
		return nil
	}
}
