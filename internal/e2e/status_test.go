package e2e

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/statscache/statscache/internal/zmqpub"
)

// systemStatus is what `status --json` answers, as a script reads it.
type systemStatus struct {
	Running bool
	PID     string
	Red     []struct{ What, Why string }
	Streams []struct {
		ID    string
		Owned int64
	}
	Plugins []struct{ ID, State string }
}

func (s *site) systemStatus(wantCode int) (x systemStatus) {
	s.t.Helper()
	r := s.run("status", "--json")
	if err := json.Unmarshal([]byte(r.stdout), &x); err != nil || r.code != wantCode {
		s.t.Fatalf("status: exit status %d, want %d, %v:\n%s%s", r.code, wantCode, err, r.stdout, r.stderr)
	}
	return x
}

func (x systemStatus) red(what string) string {
	for _, r := range x.Red {
		if r.What == what {
			return r.Why
		}
	}
	return ""
}

func TestStatus_SaysWhatIsRed(t *testing.T) {
	t.Parallel()
	publisher, err := zmqpub.Listen(zmqpub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = publisher.Close() }() // ends with the test
	_, number, _ := strings.Cut(publisher.Address(), ":")
	alive, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, map[string]string{"endpoints": endpoints(map[string][]int{"good": {alive, port(t)}, "dead": {port(t)}})})
	if x := s.systemStatus(1); x.Running || x.PID != "" || x.red("daemon") == "" || len(x.Streams) > 0 {
		t.Errorf("an empty data dir: %+v", x)
	}
	g := goldens(t)[0]
	s.mustRun("import", g.file)
	if x := s.systemStatus(1); x.Running || len(x.Streams) != 1 || x.Streams[0].Owned != g.events || len(x.Plugins) == 0 {
		t.Errorf("without a daemon: %+v, want %d events", x, g.events)
	}
	if r := s.run("status"); r.code != 1 || !strings.Contains(r.stdout, "red: daemon: none runs") || !strings.Contains(r.stdout, "not running") {
		t.Errorf("without a daemon, for people: %d\n%s", r.code, r.stdout)
	}
	d := s.start()
	waitEndpointUp(t, d, "good")
	x := s.systemStatus(1)
	if !x.Running || x.PID != strconv.Itoa(d.pid()) || x.red("endpoint dead") == "" || x.red("endpoint good") != "" || len(x.Red) != 1 {
		t.Errorf("one endpoint dead: %+v", x)
	}
	d.stop()
	s.configure(map[string]string{"endpoints": endpoints(map[string][]int{"good": {alive, port(t)}})})
	d = s.start()
	waitEndpointUp(t, d, "good")
	if x := s.systemStatus(0); len(x.Red) > 0 || !slices.ContainsFunc(x.Plugins, func(p struct{ ID, State string }) bool {
		return p.ID == "volume" && (p.State == "running" || p.State == "catching-up")
	}) {
		t.Errorf("all well: %+v", x)
	}
	if r := s.run("status"); r.code != 0 || !strings.Contains(r.stdout, "nothing is red") {
		t.Errorf("all well, for people: %d\n%s", r.code, r.stdout)
	}
	elsewhere := s.api
	s.api = address(t)
	s.configure(nil) // the command is told another address than the daemon was
	if why := s.systemStatus(1).red("daemon"); !strings.Contains(why, strconv.Itoa(d.pid())) {
		t.Errorf("an API that can't be reached: %q", why)
	}
	s.api = elsewhere
	d.stop()
}
