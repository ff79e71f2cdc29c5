package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/statscache/statscache/api"
)

const (
	// connectTimeout is how long the daemon may take to accept.
	connectTimeout = 5 * time.Second
	// shortTimeout bounds a short request.
	shortTimeout = 10 * time.Second
	// commandTimeout bounds a plugin command: the plugin's last commit may have to wait for the store.
	commandTimeout = time.Minute
)

// ErrNoAnswer is what a client's calls answer when nobody listens at the socket.
var ErrNoAnswer = errors.New("no daemon answers at the control socket")

// Client talks to the daemon of a data dir.
type Client struct {
	path string
	http *http.Client
}

// NewClient makes a client of the socket at a path. Nothing is connected yet.
func NewClient(path string) *Client {
	t := &http.Transport{DisableKeepAlives: true, DisableCompression: true, WriteBufferSize: 64 << 10,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, connectTimeout)
			defer cancel()
			c, err := dial(ctx, path)
			if err != nil {
				return nil, fmt.Errorf("%w %s: %w", ErrNoAnswer, path, err)
			}
			return c, nil
		}}
	return &Client{path: path, http: &http.Client{Transport: t}}
}

// do sends a request. Errors don't name the made-up URL.
func (c *Client) do(ctx context.Context, method, path string, body io.Reader, contentType string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://daemon"+path, body)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.http.Do(req)
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	if err != nil && !errors.Is(err, ErrNoAnswer) && ctx.Err() == nil {
		err = fmt.Errorf("ask the daemon at %s: %w", c.path, err)
	}
	return resp, err
}

// short does a request with a short answer and reads it into out.
func (c *Client) short(ctx context.Context, method, path string, out any) error {
	resp, err := c.do(ctx, method, path, nil, "")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	if resp.StatusCode != http.StatusOK {
		return refused(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("answer of the daemon at %s: %w", c.path, err)
	}
	return nil
}

// refused gives the sentence of an answer that is an error.
func refused(resp *http.Response) error {
	var e Event
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&e); err != nil || e.Error == "" {
		return fmt.Errorf("the daemon answers %s", resp.Status)
	}
	return errors.New(e.Error)
}

// Plugins lists the plugins.
func (c *Client) Plugins(ctx context.Context) ([]api.PluginStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, shortTimeout)
	defer cancel()
	var out struct {
		Plugins []api.PluginStatus `json:"plugins"`
	}
	err := c.short(ctx, http.MethodGet, "/plugins", &out)
	return out.Plugins, err
}

// CommandPlugin has the daemon do what a verb says.
func (c *Client) CommandPlugin(ctx context.Context, verb, id string) (out PluginResult, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	err = c.short(ctx, http.MethodPost, "/plugins/"+url.PathEscape(id)+"/"+url.PathEscape(verb), &out)
	return out, err
}

// readEvents hands events to f until the last one, which it gives.
func readEvents(r io.Reader, f func(Event)) (Event, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return e, fmt.Errorf("answer of the daemon: %w", err)
		}
		if e.Summary != nil || e.Error != "" {
			return e, nil
		}
		f(e)
	}
	err := lines.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return Event{}, err
}
