package control

import (
	"context"
	"net/http"
	"time"
)

// BackupRequest says where a backup goes: a path that the daemon can write, absolute.
type BackupRequest struct {
	Path string `json:"path"`
}

// BackupSummary says what a backup holds, or what was brought back from one.
type BackupSummary struct {
	Path    string    `json:"path"`
	Created time.Time `json:"created"`
	Version string    `json:"version"`    // of the statscache that made it
	Store   string    `json:"store"`      // sqlite, or crate: then the database is not in it
	Files   int       `json:"files"`      // in it
	Bytes   int64     `json:"bytes"`      // of all files together
	Packed  int64     `json:"packed"`     // of the backup
	Inbox   int       `json:"inbox"`      // events that were accepted and not archived yet
	Stream  string    `json:"stream"`     // what the inbox's numbering was called
	New     string    `json:"new_stream"` // what it is called where it was brought back
}

// Keeper is a Daemon that looks after its store. Progress gives bytes.
type Keeper interface {
	Backup(ctx context.Context, path string, progress func(done, total int)) (BackupSummary, error)
	Compact(ctx context.Context) error
}

func (s *Server) backup(d Keeper) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		var r BackupRequest
		s.work(w, req, &r, func(ctx context.Context, tell func(done, total int)) (any, error) { return d.Backup(ctx, r.Path, tell) })
	}
}

func (s *Server) compact(d Keeper) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		var r struct{}
		s.work(w, req, &r, func(ctx context.Context, _ func(done, total int)) (any, error) { return r, d.Compact(ctx) })
	}
}

// Backup has the daemon write a backup.
func (c *Client) Backup(ctx context.Context, path string, progress func(done, total int)) (out BackupSummary, err error) {
	err = c.work(ctx, "/backup", BackupRequest{Path: path}, progress, &out)
	return out, err
}

// Compact has the daemon compact its store.
func (c *Client) Compact(ctx context.Context) error {
	var out struct{}
	return c.work(ctx, "/compact", out, nil, &out)
}
