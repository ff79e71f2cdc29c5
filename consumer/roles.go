package consumer

import (
	"errors"
	"fmt"
)

// Roles are what a process does; none given stands for all.
type Roles struct {
	Consume bool // receives and archives
	Compute bool // runs plugins
	Serve   bool // answers the API
}

func (r Roles) orAll() Roles {
	if r == (Roles{}) {
		return Roles{Consume: true, Compute: true, Serve: true}
	}
	return r
}

// names gives the roles as the API calls them.
func (r Roles) names() []string {
	out := []string{}
	for _, x := range []struct {
		name string
		has  bool
	}{{"consume", r.Consume}, {"compute", r.Compute}, {"serve", r.Serve}} {
		if x.has {
			out = append(out, x.name)
		}
	}
	return out
}

var (
	errNoConsume = errors.New("the process that works in this data dir runs `statscache compute`: it receives nothing; use the data dir of one that consumes, or another one")
	errNoCompute = errors.New("the process that works in this data dir runs `statscache consume`: it has no plugins; use the data dir of one that computes")
)

// needsCluster refuses roles apart on a store that one process has for itself.
type needsCluster struct{ role string }

func (e needsCluster) Error() string {
	return fmt.Sprintf("`statscache %s` works on a CrateDB only (statscache.store.url): a SQLite file belongs to one process, which receives and counts in one: `statscache run`", e.role)
}

// CheckRole says why a role can't run by itself on a kind of store, nil where it can.
func CheckRole(kind, role string) error {
	if kind == "crate" || role == "serve" || role == "run" {
		return nil
	}
	return needsCluster{role}
}
