package control

import (
	"context"
	"net/http"
)

// MigrateRequest names the store that is to have everything. The socket can only be reached by the same user.
type MigrateRequest struct {
	To string `json:"to"` // a URL as in statscache.store.url, with its password
}

// MigrateSummary says what another store has now.
type MigrateSummary struct {
	From        string `json:"from"`
	To          string `json:"to"`
	Streams     int    `json:"streams"`
	Events      int    `json:"events"`
	Plugins     int    `json:"plugins"`
	Counts      int    `json:"counts"`
	Latest      int    `json:"latest"`
	DeadLetters int    `json:"dead_letters"`
	Paused      bool   `json:"paused"` // a daemon keeps what it receives in its inbox until it is started on the new store
}

// Migrator is a Daemon that can bring its store's contents into another one. Progress gives what was copied and compared.
type Migrator interface {
	Migrate(ctx context.Context, to string, progress func(done int)) (MigrateSummary, error)
}

func (s *Server) migrate(d Migrator) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		var r MigrateRequest
		s.work(w, req, &r, func(ctx context.Context, tell func(done, total int)) (any, error) {
			return d.Migrate(ctx, r.To, func(done int) { tell(done, 0) })
		})
	}
}

// Migrate has the daemon bring everything into another store.
func (c *Client) Migrate(ctx context.Context, to string, progress func(done int)) (out MigrateSummary, err error) {
	err = c.work(ctx, "/migrate", MigrateRequest{To: to}, func(done, _ int) {
		if progress != nil {
			progress(done)
		}
	}, &out)
	return out, err
}
