package lease

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/statscache/statscache/store"
)

// spare is for how many looks work may lie about before somebody takes it who has his fair share already: those who
// have less may not have that plugin.
const spare = 3

func computeLease(plugin, stream string) string { return computePrefix + plugin + "/" + stream }

// kind is the prefix of a name.
func kind(name string) string {
	prefix, _, _ := strings.Cut(name, "/")
	return prefix + "/"
}

// Mine takes in which streams a plugin of this process has work in, and answers which of them are this process's to
// work on. What an answer leaves out must be put down before the next call: then it goes to others. None, for a plugin
// that is not run any more.
func (k *Keeper) Mine(plugin string, streams []string) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(streams) == 0 {
		delete(k.want, plugin)
	} else {
		k.want[plugin] = slices.Clone(streams)
	}
	var out []string
	for _, s := range streams {
		if h := k.held[computeLease(plugin, s)]; h != nil && h.leave == stays && !k.ended {
			out = append(out, s)
		}
	}
	prefix := computeLease(plugin, "")
	for name, h := range k.held {
		stream, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		switch {
		case !slices.Contains(streams, stream), h.leave == told: // done, not run any more, or put down
			h.leave = left
		case h.leave == asked:
			h.leave = told
		}
	}
	return out
}

// Lost gives a lease up whose work another process has taken.
func (k *Keeper) Lost(plugin, stream string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if h := k.held[computeLease(plugin, stream)]; h != nil {
		h.leave = left
	}
}

// wants says whether this process has work under a name; under mu.
func (k *Keeper) wants(name string) bool {
	rest, ok := strings.CutPrefix(name, computePrefix)
	plugin, stream, _ := strings.Cut(rest, "/")
	return ok && slices.Contains(k.want[plugin], stream)
}

// finished says whether a name stands for work that is done, as far as this process can tell: it has the plugin, which
// has no work there; under mu.
func (k *Keeper) finished(name string) bool {
	rest, ok := strings.CutPrefix(name, computePrefix)
	plugin, stream, _ := strings.Cut(rest, "/")
	return ok && len(k.want[plugin]) > 0 && !slices.Contains(k.want[plugin], stream)
}

// shareOut gives back what is put down or more than our share, and takes what is ours to take.
func (k *Keeper) shareOut(ctx context.Context) error {
	k.mu.Lock()
	give, take := k.plan()
	k.mu.Unlock()
	var errs []error
	for _, l := range give {
		var err error
		k.mu.Lock()
		wanted := k.wants(l.Name)
		k.mu.Unlock()
		if wanted {
			err = k.swap(ctx, l, "")
		} else {
			err = k.Drop(ctx, l.Name)
		}
		errs = append(errs, k.unlessFenced(err, l.Name))
	}
	for _, l := range take {
		err := k.swap(ctx, l, k.Node)
		if err == nil {
			k.Logger.Info("takes work", "lease", l.Name)
		}
		errs = append(errs, k.unlessFenced(err, l.Name))
	}
	return errors.Join(errs...)
}

// plan says which leases to give back and which to take; under mu. Of n pieces of work everybody takes n/nodes, rounded
// up. Who has more puts down as many as others have too few, but only what they can do.
func (k *Keeper) plan() (give, take []store.Lease) {
	all, has := map[string]bool{}, map[string]int{}
	k.watch.each(computePrefix, func(_ string, s *seen) {
		all[s.Name] = true
		if !k.watch.expired(s) && s.Owner != k.Node {
			has[s.Owner]++
		}
	})
	var free []string
	for plugin, streams := range k.want {
		for _, stream := range streams {
			name := computeLease(plugin, stream)
			all[name] = true
			if k.held[name] == nil && k.watch.expired(k.watch.of(name)) {
				free = append(free, name)
			}
		}
	}
	others := k.others()
	fair := (len(all) + len(others)) / (len(others) + 1)
	mine, idle := 0, []string(nil)
	for name, h := range k.held {
		switch {
		case kind(name) != computePrefix:
		case h.leave == left:
			give = append(give, h.Lease)
		case h.leave == stays:
			mine++
			idle = append(idle, name)
		}
	}
	slices.Sort(idle)
	slices.Reverse(idle)
	for _, name := range idle { // more than our share, and somebody has less who can do it
		if mine <= fair {
			break
		}
		plugin, _, _ := strings.Cut(strings.TrimPrefix(name, computePrefix), "/")
		for id, plugins := range others {
			if has[id] < fair && slices.Contains(plugins, plugin) {
				k.held[name].leave = asked
				has[id]++
				mine--
				break
			}
		}
	}
	slices.Sort(free)
	for _, name := range free {
		s := k.watch.of(name)
		if mine < fair || s.free >= spare*k.Every {
			take = append(take, s.Lease)
			mine++
		}
	}
	return give, take
}

// others gives the other processes that compute and live, with the plugins that they have work for; under mu.
func (k *Keeper) others() map[string][]string {
	out := map[string][]string{}
	k.watch.each(nodePrefix, func(id string, s *seen) {
		var n node
		if id != k.Node && !k.watch.expired(s) && json.Unmarshal([]byte(s.Info), &n) == nil && n.Compute {
			out[id] = n.Plugins
		}
	})
	return out
}

// Node is a process as the others see it.
type Node struct {
	ID      string
	Alive   bool
	Silent  time.Duration // since its last beat was seen
	Compute bool
	About   json.RawMessage
}

// Nodes lists the processes that are known, by id.
func (k *Keeper) Nodes() []Node {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []Node
	k.watch.each(nodePrefix, func(id string, s *seen) {
		var n node
		_ = json.Unmarshal([]byte(s.Info), &n) // a row that says nothing is a process all the same
		out = append(out, Node{ID: id, Alive: !k.watch.expired(s), Silent: s.still, Compute: n.Compute, About: n.About})
	})
	slices.SortFunc(out, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Held is a lease and who has it.
type Held struct {
	Name, Owner string
	Alive       bool // its holder
}

// Leases lists what stream and compute leases there are, by name.
func (k *Keeper) Leases() []Held {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []Held
	for name, s := range k.watch.rows {
		if !s.absent && kind(name) != nodePrefix {
			out = append(out, Held{Name: name, Owner: s.Owner, Alive: !k.watch.expired(s)})
		}
	}
	slices.SortFunc(out, func(a, b Held) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Down gives why the leases could not be kept at the last attempt, nil where they could.
func (k *Keeper) Down() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.down
}
