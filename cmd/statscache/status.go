package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer"
	"github.com/statscache/statscache/consumer/config"
)

const (
	askTimeout = 5 * time.Second
	maxAnswer  = 16 << 20
	// journalFull is the share of the inbox's limit from which on it is red: not much later sockets are not read.
	journalFull = 0.9
)

// systemStatus is what the command knows of a system.
type systemStatus struct {
	Running bool               `json:"running"`
	PID     string             `json:"pid"` // of the process that works in the data dir
	DataDir string             `json:"data_dir"`
	Red     []redLight         `json:"red"`
	Checks  []api.Check        `json:"checks"` // of /readyz
	Status  *api.Status        `json:"status"` // of /api/v1/status; null where no daemon runs
	Streams []streamStatus     `json:"streams"`
	Plugins []api.PluginStatus `json:"plugins"`
	Cluster *api.ClusterStatus `json:"cluster,omitempty"` // on a CrateDB
}

// redLight is something that is not as it should be.
type redLight struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

type streamStatus struct {
	ID         string `json:"id"`
	ArchivedTo uint64 `json:"archived_to"`
	Owned      uint64 `json:"owned"`
	Retired    bool   `json:"retired"`
}

func (s *systemStatus) red(what, format string, args ...any) {
	s.Red = append(s.Red, redLight{what, fmt.Sprintf(format, args...)})
}

func newStatus(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show a running system and what is wrong with it",
		Long:  "status shows how the daemon of the data dir is doing: readiness, endpoints, inbox, streams, plugins. Without a\ndaemon it shows what the store knows. Exit status 1 says that something is red, or that no daemon runs.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.load(nil)
			if err != nil {
				return err
			}
			s, err := lookAt(cmd.Context(), c)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if g.json {
				err = json.NewEncoder(out).Encode(s)
			} else {
				err = printStatus(out, s)
			}
			if err == nil && len(s.Red) > 0 {
				err = errSaid
			}
			return err
		},
	}
}

// lookAt asks the daemon and the store. Only a store that can't be read is an error: everything else is an answer.
func lookAt(ctx context.Context, c *config.Config) (*systemStatus, error) {
	s := &systemStatus{DataDir: c.DataDir, Red: []redLight{}, Checks: []api.Check{}, Streams: []streamStatus{}, Plugins: []api.PluginStatus{}}
	var err error
	if s.PID, err = consumer.Owner(c.DataDir); err != nil {
		return nil, err
	}
	streams, err := consumer.KnownStreams(ctx, c)
	if err != nil {
		s.red("store", "it can't be read: %v", err)
	}
	for _, x := range streams {
		s.Streams = append(s.Streams, streamStatus{x.ID, x.ArchivedTo, x.Owned, x.Retired})
	}
	if s.PID == "" && c.Store.Kind == "crate" {
		if s.Cluster, err = consumer.KnownCluster(ctx, c); err != nil {
			s.red("cluster", "it can't be looked at: %v", err)
		}
		s.judgeCluster()
		if s.Plugins, err = consumer.KnownPlugins(ctx, c, bundled()); err != nil {
			return nil, err
		}
		return s, nil
	}
	if s.PID == "" {
		s.red("daemon", "none runs on %s", c.DataDir)
		if s.Plugins, err = consumer.KnownPlugins(ctx, c, bundled()); err != nil {
			return nil, err
		}
		return s, nil
	}
	var status api.Status
	err = askJSON(ctx, c.Listen, "/api/v1/status", &status)
	if err != nil && c.Store.Kind == "crate" { // consume and compute have no API
		err = askJSON(ctx, c.AdminListen, "/status", &status)
	}
	if err != nil {
		s.red("daemon", "process %s has the data dir, but its API doesn't answer at statscache.app.listen: %v", s.PID, err)
		return s, nil
	}
	s.Running, s.Status, s.Plugins, s.Cluster = true, &status, status.Plugins, status.Cluster
	var ready struct{ Checks []api.Check }
	if err := askJSON(ctx, c.AdminListen, "/readyz", &ready); err != nil {
		s.red("readiness", "it can't be asked at statscache.app.admin_listen: %v", err)
	}
	s.Checks = append(s.Checks, ready.Checks...)
	s.judge()
	s.judgeCluster()
	return s, nil
}

// askJSON gets an answer of the daemon. Every status of HTTP is an answer: 503 is how /readyz says no.
func askJSON(ctx context.Context, listen, path string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	url := "http://" + reachable(listen) + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return bare(errors.Unwrap(err))
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return fmt.Errorf("ask %s: it answers %s", url, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(answer); err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	return nil
}

// reachable turns the address that a daemon listens at into one to dial: all interfaces include the loopback.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("localhost", port)
	}
	return listen
}

// judge finds what is red in the daemon's own words.
func (s *systemStatus) judge() {
	for _, c := range s.Checks {
		if !c.OK {
			s.red(c.Role+" "+c.Name, "%s", c.Reason)
		}
	}
	if !s.Status.Store.Up {
		s.red("store", "it takes no events")
	}
	if j := s.Status.Journal; j.Limit > 0 && float64(j.Bytes) >= journalFull*float64(j.Limit) {
		s.red("inbox", "%d of %d bytes are used; when it is full, sockets are not read", j.Bytes, j.Limit)
	}
	up, states := map[string]int{}, map[string]string{}
	for _, e := range s.Status.Endpoints {
		if states[e.Name] = e.State; e.State == "up" {
			up[e.Name]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(states)) { // one of a service's addresses is enough: fedmsg spares some
		if up[name] == 0 {
			s.red("endpoint "+name, "none of its addresses is connected (%s)", states[name])
		}
	}
	for _, p := range s.Plugins {
		switch p.State {
		case "quarantined", "backing-off":
			s.red("plugin "+p.ID, "%s: %s", p.State, p.Error)
		}
	}
}

func printStatus(out io.Writer, s *systemStatus) error {
	if s.Running {
		st := s.Status
		fmt.Fprintf(out, "statscache %s, process %s, since %s, on %s\n", st.Version, s.PID, st.Started.Format(time.RFC3339), s.DataDir)
		fmt.Fprintf(out, "%.1f events/s, %d owned; inbox %d of %d bytes; store %s\n", st.EventsPerSecond, st.Owned, st.Journal.Bytes, st.Journal.Limit, st.Store.Kind)
	} else {
		fmt.Fprintf(out, "data dir %s: no daemon to ask; this is what the store knows\n", s.DataDir)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if s.Running && len(s.Status.Endpoints) > 0 {
		fmt.Fprintln(w, "\nENDPOINT\tADDRESS\tSTATE\tRECEIVED\tREJECTED\tRECONNECTS\tLAST EVENT")
		for _, e := range s.Status.Endpoints {
			last := "never"
			if e.LastEvent != nil {
				last = e.LastEvent.Format(time.RFC3339)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\n", e.Name, e.Address, e.State, e.Received, e.Rejected, e.Reconnects, last)
		}
	}
	fmt.Fprintln(w, "\nSTREAM\tARCHIVED TO\tOWNED\tSTATE")
	for _, x := range s.Streams {
		state := "live"
		if x.Retired {
			state = "retired"
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", x.ID, x.ArchivedTo, x.Owned, state)
	}
	printCluster(w, s.Cluster)
	fmt.Fprintln(w, "\nPLUGIN\tVERSION\tSTATE\tLAG\tRESTARTS\tDEAD\tERROR")
	for _, p := range s.Plugins {
		state := p.State
		if !s.Running && state != "disabled" && s.Cluster == nil {
			state = "not running"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\n", p.ID, p.Version, state, p.Lag, p.Restarts, p.DeadLetters, printable(p.Error))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	for _, r := range s.Red {
		fmt.Fprintf(out, "red: %s: %s\n", r.What, printable(r.Why))
	}
	if len(s.Red) == 0 {
		_, err := fmt.Fprintln(out, "nothing is red")
		return err
	}
	return nil
}
