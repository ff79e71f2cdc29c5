// Package cratetest gives tests a real CrateDB, each test a schema of its own.
package cratetest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Env names the variable with the URL of a CrateDB to test on, such as crate://crate@127.0.0.1:5432/ (any schema in it
// is ignored). Without it a test binary starts a node of its own from the command "crate" on PATH.
const Env = "STATSCACHE_TEST_CRATE"

const (
	heapEnv   = "CRATE_HEAP_SIZE" // read by CrateDB
	javaEnv   = "CRATE_JAVA_OPTS" // read by CrateDB
	startTime = 4 * time.Minute   // a node starts in about 5 s on an idle machine, and takes minutes on a very busy one
	patience  = 10 * time.Second  // for one attempt to reach it
	howTo     = "needs a CrateDB: set " + Env + "=crate://crate@host:5432/, or put the vendor's \"crate\" on PATH " +
		"(https://cratedb.com/download: the tarball has bin/crate; or run the container image \"crate\" and set " + Env + ")"
)

// shared is the node of the test binary: it takes seconds to start and is the same for all tests.
var shared struct {
	once sync.Once
	node *Node
	err  error

	mu   sync.Mutex
	free []*url.URL // schemas of Reuse that no test uses now
	made int
}

// Start gives the URL of a schema that is this test's alone. The test is skipped, with a sentence that says what to
// do, where there is no CrateDB to be had. The schema's tables are dropped at the end of the test.
func Start(t testing.TB) string {
	t.Helper()
	u := server(t, t.Name())
	t.Cleanup(func() {
		if err := within(startTime, func(ctx context.Context) error { return drop(ctx, u) }); err != nil {
			t.Errorf("drop the test's schema: %v", err)
		}
	})
	return u.String()
}

// Reuse is Start for a test that can do with tables that are empty instead of new: to make them takes seconds on a busy
// machine. They are emptied after the test, once everything that the server was doing then has ended.
func Reuse(t testing.TB) string {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	var u *url.URL
	if n := len(shared.free); n > 0 {
		u, shared.free = shared.free[n-1], shared.free[:n-1]
	} else {
		u = server(t, fmt.Sprint("reused ", shared.made))
		shared.made++
	}
	t.Cleanup(func() {
		if err := within(startTime, func(ctx context.Context) error { return empty(ctx, u) }); err != nil {
			t.Errorf("empty the test's schema: %v", err)
			return
		}
		shared.mu.Lock()
		defer shared.mu.Unlock()
		shared.free = append(shared.free, u)
	})
	return u.String()
}

func within(d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return f(ctx)
}

// server gives the URL of a schema without tables.
func server(t testing.TB, name string) *url.URL {
	t.Helper()
	base := os.Getenv(Env)
	if base == "" {
		if _, err := exec.LookPath("crate"); err != nil {
			t.Skip(howTo)
		}
		shared.once.Do(func() { shared.node, shared.err = Launch() })
		if shared.err != nil {
			t.Fatal(shared.err)
		}
		base = shared.node.URL
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "crate" || u.Host == "" {
		t.Fatalf("%s=%q: want crate://user:password@host:5432/", Env, base)
	}
	u.Path = "/" + schema(name)
	if u.RawQuery == "" {
		u.RawQuery = "sslmode=disable"
	}
	var version string
	err = within(startTime, func(ctx context.Context) (err error) {
		if version, err = serverVersion(ctx, u); err != nil {
			return err
		}
		return drop(ctx, u)
	})
	if err != nil {
		t.Fatalf("%s: %v", u.Redacted(), err)
	}
	t.Logf("CrateDB %s, schema %s", version, u.Path[1:])
	return u
}

// Run runs the tests of a binary and stops its node: for TestMain. A node whose test binary dies before that is killed by its
// watchdog.
func Run(m *testing.M) int {
	defer func() {
		if shared.node != nil {
			shared.node.Stop()
			return
		}
		for _, u := range shared.free {
			if err := within(startTime, func(ctx context.Context) error { return drop(ctx, u) }); err != nil {
				fmt.Fprintf(os.Stderr, "drop schema %s: %v\n", u.Path[1:], err)
			}
		}
	}()
	return m.Run()
}

// schema makes a schema's name of a test's.
func schema(test string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(test))
	h := uint32(2166136261)
	for _, c := range []byte(test) {
		h = (h ^ uint32(c)) * 16777619
	}
	return fmt.Sprintf("t%08x_%.40s", h^uint32(os.Getpid()), name)
}

func connect(ctx context.Context, u *url.URL) (*pgx.Conn, error) {
	dsn := *u
	dsn.Scheme = "postgres"
	return pgx.Connect(ctx, dsn.String())
}

func serverVersion(ctx context.Context, u *url.URL) (version string, err error) {
	c, err := connect(ctx, u)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close(ctx) }()
	err = c.QueryRow(ctx, "SELECT version['number'] FROM sys.nodes LIMIT 1").Scan(&version)
	return version, err
}

func drop(ctx context.Context, u *url.URL) error {
	return eachTable(ctx, u, func(c *pgx.Conn, table string) error {
		_, err := c.Exec(ctx, "DROP TABLE IF EXISTS "+table)
		return err
	})
}

// empty waits until the server has done with whatever it was at when this began, then removes all rows but those that
// say what the schema is.
func empty(ctx context.Context, u *url.URL) error {
	waited := false
	return eachTable(ctx, u, func(c *pgx.Conn, table string) error {
		// Two looks in a row: what a closed connection had sent may not have been begun at the first.
		for quiet, since := 0, time.Now().UnixMilli(); !waited && quiet < 2; {
			var running int
			if err := c.QueryRow(ctx, "SELECT count(*) FROM sys.jobs WHERE started::bigint < $1", since).Scan(&running); err != nil {
				return err
			}
			if quiet++; running > 0 {
				quiet = 0
			}
			time.Sleep(50 * time.Millisecond)
		}
		waited = true
		if strings.Contains(table, "schema_version") {
			return nil
		}
		if _, err := c.Exec(ctx, "REFRESH TABLE "+table); err != nil {
			return err
		}
		if _, err := c.Exec(ctx, "DELETE FROM "+table); err != nil {
			return err
		}
		_, err := c.Exec(ctx, "REFRESH TABLE "+table)
		return err
	})
}

// eachTable calls f for the tables of a schema.
func eachTable(ctx context.Context, u *url.URL, f func(c *pgx.Conn, table string) error) error {
	c, err := connect(ctx, u)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(ctx) }()
	rows, err := c.Query(ctx, "SELECT table_name FROM information_schema.tables WHERE table_schema = $1", u.Path[1:])
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := f(c, pgx.Identifier{u.Path[1:], n}.Sanitize()); err != nil {
			return err
		}
	}
	return nil
}

// Node is a private CrateDB of one node with its data in a temporary directory, or in memory. Tests that kill servers launch their
// own; all others share one.
type Node struct {
	URL string // crate://crate@127.0.0.1:port/

	dir   string
	data  string   // below dir, or in memory
	ports [3]int   // HTTP, between nodes, PostgreSQL
	args  []string // how it finds others
	cmd   *exec.Cmd
	done  chan struct{}

	watchdog *exec.Cmd
	pipe     io.Closer
}

// Launch starts a node from the command "crate" and waits until it answers. It is one for tests, small and quick to start,
// unless the environment says how large its heap is, as benchmarks have it.
func Launch() (*Node, error) {
	n, err := newNode()
	if err != nil {
		return nil, err
	}
	n.args = []string{"-Cdiscovery.type=single-node"}
	if err := n.Start(); err != nil {
		n.Stop()
		return nil, err
	}
	return n, nil
}

// Address is the host:port of the node for clients.
func (n *Node) Address() string { return fmt.Sprintf("127.0.0.1:%d", n.ports[2]) }

// newNode makes a node that does not run yet.
func newNode() (*Node, error) {
	n := &Node{}
	var err error
	if n.ports, err = freePorts(); err != nil {
		return nil, err
	}
	if n.dir, err = os.MkdirTemp("", "statscache-crate-"); err != nil {
		return nil, err
	}
	if n.data, err = dataFolder(n.dir); err != nil {
		return nil, err
	}
	n.URL = fmt.Sprintf("crate://crate@127.0.0.1:%d/", n.ports[2])
	return n, nil
}

// freePorts gives three ports that nobody listens on now.
func freePorts() (ports [3]int, err error) {
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return ports, err
		}
		ports[i] = l.Addr().(*net.TCPAddr).Port
		defer func() { _ = l.Close() }() // only when all are known, so that they differ
	}
	return ports, nil
}

// Start starts the node, after Kill on the same data and ports, and waits until it answers.
func (n *Node) Start() error {
	if err := n.begin(); err != nil {
		return err
	}
	return n.wait()
}

// begin is Start without waiting.
func (n *Node) begin() error {
	log, err := os.OpenFile(filepath.Join(n.dir, "stdout.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	n.cmd = exec.Command("crate", append([]string{"-Cnetwork.host=127.0.0.1", fmt.Sprintf("-Chttp.port=%d", n.ports[0]),
		fmt.Sprintf("-Ctransport.tcp.port=%d", n.ports[1]), fmt.Sprintf("-Cpsql.port=%d", n.ports[2]), "-Cpath.data=" + n.data, "-Cudc.enabled=false"}, n.args...)...)
	n.cmd.Env = os.Environ()
	if small() {
		// A node that lives for minutes never earns back what Java's optimising compiler takes: half of all its time.
		n.cmd.Env = append(n.cmd.Env, heapEnv+"=512m", javaEnv+"="+strings.TrimSpace("-XX:TieredStopAtLevel=1 "+os.Getenv(javaEnv)))
	}
	n.cmd.Stdout, n.cmd.Stderr = log, log
	if err := n.cmd.Start(); err != nil {
		return fmt.Errorf("start crate: %w", err)
	}
	n.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait() // 143 after SIGTERM
		close(done)
	}(n.cmd, n.done)
	return n.watch()
}

// watch starts a shell that kills the node, and removes its data, when the pipe from this process ends: that is, when this process is gone,
// however it went. (Pdeathsig is not enough: the kernel forgets it where the launcher changes to another user.)
func (n *Node) watch() error {
	n.watchdog = exec.Command("sh", "-c", `read -r _; kill -9 "$0"; sleep 1; rm -rf -- "$@"`, strconv.Itoa(n.cmd.Process.Pid), n.data, n.dir)
	pipe, err := n.watchdog.StdinPipe()
	if err != nil {
		return err
	}
	n.pipe = pipe                                                // not to be collected, and so closed, before its time
	n.watchdog.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is not for it
	if err := n.watchdog.Start(); err != nil {
		return fmt.Errorf("start crate's watchdog: %w", err)
	}
	return nil
}

// unwatch ends the watchdog before the node ends: the node's pid may be another process's afterwards.
func (n *Node) unwatch() {
	if n.watchdog != nil {
		_ = n.watchdog.Process.Kill()
		_ = n.watchdog.Wait()
		n.watchdog = nil
	}
}

// wait polls until the node answers a query.
func (n *Node) wait() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	u, err := url.Parse(n.URL + "doc?sslmode=disable")
	if err != nil {
		return err
	}
	for {
		err := within(patience, func(ctx context.Context) error {
			_, err := serverVersion(ctx, u)
			return err
		})
		if err == nil {
			return nil
		}
		select {
		case <-n.done:
			return fmt.Errorf("crate ended while starting: %s", n.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("crate did not answer within %s (%w): %s", startTime, err, n.lastWords())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (n *Node) lastWords() string {
	b, err := os.ReadFile(filepath.Join(n.dir, "stdout.log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

// Kill ends the node with SIGKILL. Start starts it again.
func (n *Node) Kill() {
	n.unwatch()
	_ = n.cmd.Process.Kill()
	<-n.done
}

// Pause has the node do nothing until Resume: it holds its connections and does not answer.
func (n *Node) Pause() error { return n.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume has the node go on.
func (n *Node) Resume() error { return n.cmd.Process.Signal(syscall.SIGCONT) }

// Stop ends the node, where it runs, and removes its data.
func (n *Node) Stop() {
	if n.done != nil {
		n.unwatch()
		_ = n.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-n.done:
		case <-time.After(10 * time.Second):
			n.Kill()
		}
	}
	_, _ = os.RemoveAll(n.data), os.RemoveAll(n.dir)
}
