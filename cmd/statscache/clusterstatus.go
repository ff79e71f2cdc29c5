package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/statscache/statscache/api"
)

// judgeCluster finds what is red among the processes on one store, and in its database.
func (s *systemStatus) judgeCluster() {
	if s.Cluster == nil {
		return
	}
	roles := map[string]int{}
	for _, n := range s.Cluster.Nodes {
		if !n.Alive {
			s.red("node "+n.ID, "process %d on %s has been silent for %.0f s: others do its work; it is forgotten after some minutes", n.PID, n.Host, n.Silent)
			continue
		}
		for _, r := range n.Roles {
			roles[r]++
		}
	}
	for _, role := range []string{"consume", "compute"} {
		if roles[role] == 0 {
			s.red(role, "no process does it: start `statscache %s` or `statscache run`", role)
		}
	}
	for _, l := range s.Cluster.Leases {
		if roles["compute"] > 0 && strings.HasPrefix(l.Name, "compute/") && !l.Alive {
			s.red("lease "+l.Name, "nobody works on it: it is taken over within seconds, or no process has the plugin")
		}
	}
	for _, h := range s.Cluster.Health {
		if h.Severity == "red" {
			s.red("CrateDB: "+h.What, "%s; %s", h.Why, h.Do)
		}
	}
}

// printCluster prints the processes, what each does and what the database warns of.
func printCluster(w io.Writer, c *api.ClusterStatus) {
	if c == nil {
		return
	}
	fmt.Fprintln(w, "\nNODE\tROLES\tHOST\tPROCESS\tVERSION\tEVENTS/S\tSTREAMS\tWORK\tSTATE")
	for _, n := range c.Nodes {
		state := "alive"
		if !n.Alive {
			state = fmt.Sprintf("silent for %.0f s", n.Silent)
		}
		streams := 0
		for _, x := range c.Streams {
			if x.Node == n.ID {
				streams++
			}
		}
		var work []string // plugins, each with the number of its streams
		for _, l := range c.Leases {
			if rest, ok := strings.CutPrefix(l.Name, "compute/"); ok && l.Node == n.ID {
				plugin, _, _ := strings.Cut(rest, "/")
				work = append(work, plugin)
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%.1f\t%d\t%s\t%s\n", n.ID, strings.Join(n.Roles, ","), n.Host, n.PID, n.Version, n.EventsPerSecond, streams,
			cmp.Or(eachOnce(work), "-"), state)
	}
	for _, h := range c.Health {
		if h.Severity != "red" {
			fmt.Fprintf(w, "\n%s: CrateDB: %s: %s; %s\n", h.Severity, h.What, printable(h.Why), printable(h.Do))
		}
	}
}

// eachOnce lists names once, with how often each is there.
func eachOnce(names []string) string {
	n := map[string]int{}
	for _, x := range names {
		n[x]++
	}
	slices.Sort(names)
	var out []string
	for _, x := range slices.Compact(names) {
		out = append(out, fmt.Sprintf("%s x%d", x, n[x]))
	}
	return strings.Join(out, ", ")
}
