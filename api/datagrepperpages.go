package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/statscache/statscache/store"
)

// grepPolicy lets datagrepper's pages load nothing.
const grepPolicy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

const grepCardsHTML = `{{if .Chrome}}<!doctype html><html lang="en"><meta charset="utf-8"><title>Archived messages</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<style>body{font:16px/1.5 system-ui;max-width:60rem;margin:1rem auto;padding:0 1rem}li{margin:.4rem 0}pre{overflow:auto}</style>
<h1>Archived messages</h1>{{end}}<ul>{{range .Cards}}
<li><b>{{.Topic}}</b> <time datetime="{{.Time}}">{{.Date}}</time>{{if $.Large}} {{.Time}}{{end}} <a href="{{$.Base}}id?id={{.ID}}&amp;is_raw=true&amp;size=extra-large">JSON</a>{{if .Body}}<pre>{{.Body}}</pre>{{end}}</li>{{end}}
</ul>{{if .Chrome}}</html>{{end}}
`

const grepIndexHTML = `<!doctype html><html lang="en"><meta charset="utf-8"><title>datagrepper's API</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<style>body{font:16px/1.5 system-ui;max-width:50rem;margin:1rem auto;padding:0 1rem}</style>
<h1>datagrepper's API</h1><p>Here answers statscache's archive in datagrepper's words, for programs that know these.</p><ul>
<li><a href="raw?delta=86400">raw</a>, <a href="v2/search?delta=86400">v2/search</a>: messages by user, package, category, topic, agent, contains, not_* of each, start, end, delta, page, rows_per_page, order, meta</li>
<li>id?id=…, v2/id?id=…: one message</li><li><a href="messagecount">messagecount</a></li>
<li><a href="charts/line">charts/line</a> and other charts</li><li>widget.js: a list of messages in a page of yours</li></ul></html>
`

type grepCard struct{ ID, Topic, Time, Date, Body string }

// grepCards lists messages for people.
func (s *Server) grepCards(q *grepQuery, events []store.Event, now time.Time) (*answer, error) {
	page := struct {
		Chrome, Large bool
		Base          string
		Cards         []grepCard
	}{Chrome: q.chrome, Large: strings.HasSuffix(q.size, "large"), Base: s.base + datagrepperPrefix}
	for i := range events {
		e := &events[i]
		at := time.UnixMicro(e.Time).UTC()
		card := grepCard{ID: e.ID, Topic: e.Topic, Time: at.Format(time.RFC3339), Date: humanized(now.Sub(at))}
		if q.size == "extra-large" {
			var b bytes.Buffer
			if err := json.Indent(&b, e.Body, "", "  "); err == nil {
				card.Body = b.String()
			}
		}
		page.Cards = append(page.Cards, card)
	}
	t, err := template.New("cards").Parse(grepCardsHTML)
	if err != nil {
		return nil, fmt.Errorf("page of messages: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, page); err != nil {
		return nil, fmt.Errorf("page of messages: %w", err)
	}
	return &answer{body: b.Bytes(), contentType: "text/html; charset=utf-8"}, nil
}

func (s *Server) grepIndex(c echo.Context) error {
	c.Response().Header().Set("Content-Security-Policy", grepPolicy)
	return c.HTML(200, grepIndexHTML)
}

// grepScript makes a list of messages where its script stands. Text of messages never becomes markup.
const grepScript = `(function () {
  'use strict';
  var script = document.getElementById('datagrepper-widget') || document.currentScript;
  if (!script) { return; }
  var list = document.createElement('div');
  list.id = 'datagrepper-widget';
  script.parentNode.insertBefore(list, script);
  if (STYLED) {
    var style = document.createElement('style');
    style.textContent = '#datagrepper-widget .message-card{display:inline-block;margin-right:.5em}#datagrepper-widget .datetime{display:inline-block;font-style:italic;opacity:.7}';
    document.head.appendChild(style);
  }
  var query = 'meta=url&meta=app_icon&meta=agent_avatar&meta=summary&meta=date';
  ['user', 'package', 'category', 'topic', 'agent', 'contains', 'not_user', 'not_package', 'not_category', 'not_topic', 'not_agent',
    'start', 'end', 'delta', 'order', 'rows_per_page', 'page', 'size'].forEach(function (name) {
    var value = script.getAttribute('data-' + name);
    if (value !== null) { query += '&' + name + '=' + encodeURIComponent(value); }
  });
  var base = BASE || new URL('.', script.src).href;
  fetch(base + 'v2/search?' + query, {headers: {Accept: 'application/json'}}).then(function (r) {
    if (!r.ok) { throw new Error('datagrepper answers ' + r.status); }
    return r.json();
  }).then(function (found) {
    found.raw_messages.forEach(function (message) {
      var row = document.createElement('div'), card = document.createElement('div'), p = document.createElement('p'), when = document.createElement('div');
      card.className = 'message-card';
      p.textContent = message.meta.summary || message.topic;
      card.appendChild(p);
      when.className = 'datetime';
      when.textContent = message.meta.date;
      row.appendChild(card);
      row.appendChild(when);
      list.appendChild(row);
    });
  }).catch(function (error) {
    list.textContent = String(error.message || error);
  });
}());
`

// grepWidget is /widget.js.
func (s *Server) grepWidget(c echo.Context, _ bool) error {
	styled := strings.EqualFold(c.QueryParam("css"), "true")
	return s.grepAnswer(c, fmt.Sprint("widget ", styled), func(context.Context) (*answer, error) {
		base := `""`
		if s.base != "" {
			raw, err := json.Marshal(s.base + datagrepperPrefix)
			if err != nil {
				return nil, fmt.Errorf("widget: %w", err)
			}
			base = string(raw)
		}
		body := strings.NewReplacer("STYLED", fmt.Sprint(styled), "BASE", base).Replace(grepScript)
		return &answer{body: []byte(body), contentType: "application/javascript; charset=utf-8"}, nil
	})
}
