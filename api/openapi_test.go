package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/statscache/statscache/store"
)

// contract is the document, as programs read it.
type contract struct{ doc *openapi3.T }

// loadContract refuses a document that isn't valid OpenAPI.
func loadContract(body []byte) (*contract, error) {
	doc, err := openapi3.NewLoader().LoadFromData(body)
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, err
	}
	return &contract{doc}, nil
}

// check holds an answer to what the document says of a path.
func (c *contract) check(path string, r *http.Request, w *httptest.ResponseRecorder) error {
	item := c.doc.Paths.Value(path)
	if item == nil {
		return fmt.Errorf("%s is not in the document", path)
	}
	media, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";")
	options := &openapi3filter.Options{IncludeResponseStatus: true, ExcludeResponseBody: media != "application/json" && media != "application/problem+json"}
	in := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: r, Options: options,
			Route: &routers.Route{Spec: c.doc, Path: path, PathItem: item, Method: http.MethodGet, Operation: item.Get},
		},
		Status: w.Code, Header: w.Header(), Options: options,
	}
	in.SetBodyBytes(w.Body.Bytes())
	if err := openapi3filter.ValidateResponse(r.Context(), in); err != nil {
		return err
	}
	known := item.Get.Responses.Status(w.Code)
	if known == nil {
		known = item.Get.Responses.Default()
	}
	if known == nil {
		return fmt.Errorf("status %d is not in the document", w.Code)
	}
	if known.Value.Content != nil && known.Value.Content[media] == nil {
		return fmt.Errorf("%d answers as %q, which the document doesn't name", w.Code, media)
	}
	return nil
}

// contractServer has something to say on every route.
func contractServer(t testing.TB) *Server {
	t.Helper()
	at := time.Unix(testNow-100, 0)
	f := compatStore(t)
	return newTestServer(t, Options{
		Store:   f,
		Plugins: func() []PluginStatus { return []PluginStatus{{ID: "volume", State: "running", Lag: 3}} },
		Status: func() Status {
			return Status{Version: "1", Started: at, Roles: []string{"serve"}, Endpoints: []EndpointStatus{{Name: "a", LastEvent: &at}, {Name: "b"}}}
		},
		Explain: func(_ context.Context, q ExplainQuery) (Explanation, error) {
			if q.Metric == releng {
				return Explanation{}, store.ErrUnknown
			}
			return Explanation{Metric: q.Metric, From: at.UTC(), To: at.UTC(), Step: "1m", Filter: q.Filter, Notes: []string{"n"},
				Events: []ExplainedEvent{{ID: "x", Signed: "unsigned", Msg: json.RawMessage(`{"a":[1]}`)}, {ID: "y", Signed: "verified"}}}, nil
		},
	})
}

// contractCases are requests by path of the document: for each there is one at least.
func contractCases() map[string][]string {
	return map[string][]string{
		"/": {"/"}, "/web": {"/web"}, "/web/": {"/web/"}, "/web/{file}": {"/web/style.css", "/web/page.js", "/web/icon.svg", "/web/nothing"},
		"/web/getting-started":   {"/web/getting-started"},
		"/web/dashboard":         {"/web/dashboard"},
		"/web/dashboard/{ident}": {"/web/dashboard/volume", "/web/dashboard/volume-by-category-1d?as=bars&group-by=category&at=now", "/web/dashboard/" + releng, "/web/dashboard/nothing"},
		"/web/board/{ident}":     {"/web/board/" + releng, "/web/board/volume", "/web/board/nothing"},
		"/web/user":              {"/web/user?name=a%2Fb", "/web/user"},
		"/web/user/{name}":       {"/web/user/ralph", "/web/user/%3Cscript%3E"},
		"/web/reference":         {"/web/reference"},
		"/web/widgets":           {"/web/widgets", "/web/widgets?widget=calendar&metric=volume", "/web/widgets?widget=pie"},
		"/web/status":            {"/web/status"},
		"/widgets/v1/{script}":   {"/widgets/v1/statscache.js", "/widgets/v1/statscache-0.js"},
		"/img/{picture}":         {"/img/line.svg?metric=volume", "/img/status.svg", "/img/calendar.svg?metric=nothing", "/img/pie.svg"},
		"/badge/{badge}":         {"/badge/volume.svg", "/badge/volume.json", "/badge/nothing.json", "/badge/volume"},
		"/embed/{widget}":        {"/embed/line?metric=volume", "/embed/pie"},
		"/oembed":                {"/oembed?url=http://x/embed/line%3Fmetric=volume", "/oembed?url=http://x/y", "/oembed"},
		"/openapi.json":          {"/openapi.json"},
		"/api":                   {"/api"},
		"/api/":                  {"/api/", "/api/?callback=x", "/api/?callback=1"},
		"/api/{ident}":           {"/api/volume-by-category-1d", "/api/" + releng, "/api/volume-1s?limit=3&callback=x", "/api/nothing", "/api/volume-1s?page=0"},
		"/api/{ident}/layout":    {"/api/" + releng + "/layout", "/api/volume-1s/layout", "/api/" + releng + "/layout?callback=x"},
		"/api/v1/plugins":        {"/api/v1/plugins"},
		"/api/v1/status":         {"/api/v1/status"},
		"/api/v1/gaps":           {"/api/v1/gaps"},
		"/api/v1/metrics":        {"/api/v1/metrics"},
		"/api/v1/stream":         {"/api/v1/stream?metrics=nothing", "/api/v1/stream?metric=volume"}, // one that is open never ends
		"/api/v1/metrics/{id}":   {"/api/v1/metrics/volume", "/api/v1/metrics/nothing"},
		"/api/v1/metrics/{id}/series": {
			"/api/v1/metrics/volume-by-category/series", "/api/v1/metrics/volume-by-category/series?from=2018-04-26&to=2018-04-27&step=6h&group_by=category&top=2&other=1&tz=Asia/Kolkata",
			"/api/v1/metrics/volume-by-category/series?from=2018-04-26&step=1d&shape=rows&fill=null&group_by=category", "/api/v1/metrics/volume/series?step=1s", "/api/v1/metrics/volume/series?sep=1s",
			"/api/v1/metrics/" + releng + "/series", "/api/v1/metrics/volume/series?from=now-1h", "/api/v1/metrics/volume/series?fill=null&shape=columns&format=csv",
		},
		"/api/v1/metrics/{id}/top":              {"/api/v1/metrics/volume-by-category/top", "/api/v1/metrics/volume-by-category/top?by=category&limit=2", "/api/v1/metrics/volume/top", "/api/v1/metrics/nothing/top"},
		"/api/v1/metrics/{id}/count":            {"/api/v1/metrics/volume/count", "/api/v1/metrics/volume-by-category/count?filter=category:git&not=category:bodhi", "/api/v1/metrics/volume/count?filter=user:x"},
		"/api/v1/metrics/{id}/calendar":         {"/api/v1/metrics/volume/calendar?from=2018-04-20&to=2018-04-28&tz=America/New_York", "/api/v1/metrics/volume/calendar?from=1970-01-01"},
		"/api/v1/metrics/{id}/latest":           {"/api/v1/metrics/" + releng + "/latest", "/api/v1/metrics/" + releng + "/latest?filter=category:compose", "/api/v1/metrics/volume/latest"},
		"/api/v1/metrics/{id}/dimensions/{dim}": {"/api/v1/metrics/volume-by-category/dimensions/category?prefix=b", "/api/v1/metrics/volume-by-category/dimensions/user"},
		"/api/v1/events":                        {"/api/v1/events", "/api/v1/events?user=ralph&not_topic=a&size=1&order=asc", "/api/v1/events?cursor=x", "/api/v1/events?delta=1d&format=csv"},
		"/api/v1/events/count":                  {"/api/v1/events/count", "/api/v1/events/count?user=ralph&agent=x", "/api/v1/events/count?contains=x", "/api/v1/events/count?start=2"},
		"/api/v1/events/{msg_id}":               {"/api/v1/events/x", "/api/v1/events/nothing", "/api/v1/events/x?format=no"},
		"/api/v1/topics":                        {"/api/v1/topics", "/api/v1/topics?prefix=org.&limit=3", "/api/v1/topics?order=asc"},
		"/datagrepper/":                         {"/datagrepper/"},
		"/datagrepper/raw":                      {"/datagrepper/raw", "/datagrepper/raw/?page=0", "/datagrepper/raw?user=a&meta=date&callback=x"},
		"/datagrepper/v2/search":                {"/datagrepper/v2/search", "/datagrepper/v2/search?rows_per_page=0"},
		"/datagrepper/id":                       {"/datagrepper/id?id=x", "/datagrepper/id?id=nothing", "/datagrepper/id"},
		"/datagrepper/v2/id":                    {"/datagrepper/v2/id?id=x"},
		"/datagrepper/messagecount":             {"/datagrepper/messagecount", "/datagrepper/messagecount/"},
		"/datagrepper/charts/{type}":            {"/datagrepper/charts/line", "/datagrepper/charts/pie", "/datagrepper/charts/bar?N=1"},
		"/datagrepper/widget.js":                {"/datagrepper/widget.js"},
		"/datagrepper/healthz/live":             {"/datagrepper/healthz/live"},
		"/datagrepper/healthz/ready":            {"/datagrepper/healthz/ready"},
		"/api/v1/users/{name}":                  {"/api/v1/users/ralph", "/api/v1/users/ralph?tz=Mars"},
		"/api/v1/metrics/{id}/explain":          {"/api/v1/metrics/volume/explain?time=now&filter=a:b", "/api/v1/metrics/volume/explain", "/api/v1/metrics/" + releng + "/explain?time=now"},
	}
}

func TestOpenAPI_EveryRouteAnswersAsTheDocumentSays(t *testing.T) {
	c, err := loadContract(openapiDocument)
	if err != nil {
		t.Fatal(err)
	}
	s := contractServer(t)
	cases := contractCases()
	var served []string
	for _, r := range s.echo.Routes() {
		if name := routeName(r.Path); r.Method == http.MethodGet && !slices.Contains(served, name) {
			served = append(served, name)
		}
	}
	for _, path := range served {
		if c.doc.Paths.Value(path) == nil {
			t.Errorf("%s is served and not described", path)
		}
		if len(cases[path]) == 0 {
			t.Errorf("%s has no case here", path)
		}
	}
	for path := range c.doc.Paths.Map() {
		if !slices.Contains(served, path) {
			t.Errorf("%s is described and not served", path)
		}
	}
	for path, urls := range cases {
		for _, url := range urls {
			for _, accept := range []string{"", "text/csv", "application/x-ndjson", "text/html", "image/png"} {
				r := httptest.NewRequest(http.MethodGet, url, nil)
				if accept != "" {
					r.Header.Set("Accept", accept)
				}
				w := httptest.NewRecorder()
				s.ServeHTTP(w, r)
				if err := c.check(path, r, w); err != nil {
					t.Errorf("%s as %q: %d: %v\n%s", url, accept, w.Code, err, cut(w.Body.String(), 500))
				}
				if w.Code >= 500 {
					t.Errorf("%s as %q: %d %s", url, accept, w.Code, w.Body)
				}
				etag := w.Header().Get("Etag")
				if etag == "" || w.Code != http.StatusOK {
					continue
				}
				r.Header.Set("If-None-Match", etag)
				again := httptest.NewRecorder()
				if s.ServeHTTP(again, r); again.Code != http.StatusNotModified || again.Body.Len() > 0 {
					t.Errorf("%s as %q, asked again: %d, want 304", url, accept, again.Code)
				} else if err := c.check(path, r, again); err != nil {
					t.Errorf("%s as %q, asked again: %v", url, accept, err)
				}
			}
		}
	}
}

// TestOpenAPI_TheValidatorRejects keeps the test above honest: documents and answers that are wrong are found.
func TestOpenAPI_TheValidatorRejects(t *testing.T) {
	change := func(old, with string) []byte {
		t.Helper()
		if bytes.Count(openapiDocument, []byte(old)) == 0 {
			t.Fatalf("the document has no %s any more", old)
		}
		return bytes.Replace(openapiDocument, []byte(old), []byte(with), 1)
	}
	for name, body := range map[string][]byte{
		"no JSON":                          openapiDocument[:len(openapiDocument)/2],
		"a reference to none":              change(`"#/components/schemas/Metrics"`, `"#/components/schemas/Nothing"`),
		"an unknown type":                  change(`"type": "boolean"`, `"type": "truth"`),
		"an unbound parameter of the path": change(`/api/{ident}/layout"`, `/api/{other}/layout"`),
		"no description":                   change(`"description": "All metrics, by id.", `, ``),
	} {
		if _, err := loadContract(body); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	s := contractServer(t)
	for name, x := range map[string]struct {
		path, url, old, with string
	}{
		"a field that isn't there": {"/api/v1/metrics", "/api/v1/metrics", `"required": ["metrics"]`, `"required": ["metrics", "more"]`},
		"a field it doesn't know":  {"/api/v1/plugins", "/api/v1/plugins", `"lag": {`, `"log": {`},
		"another type":             {"/api/v1/status", "/api/v1/status", `"owned": {"type": "integer"`, `"owned": {"type": "string"`},
		"a status":                 {"/api", "/api", `"308"`, `"301"`},
		"a content type":           {"/web/{file}", "/web/style.css", `"text/css"`, `"text/plain"`},
	} {
		c, err := loadContract(change(x.old, x.with))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		r := httptest.NewRequest(http.MethodGet, x.url, nil)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if err := c.check(x.path, r, w); err == nil {
			t.Errorf("%s: an answer passes a document that says otherwise: %s", name, cut(w.Body.String(), 300))
		}
	}
}
