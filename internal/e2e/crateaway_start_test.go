package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/cratetest"
)

// TestCrateAway_AtTheStart starts processes of every role on a database that comes later: they say what they wait for,
// a consumer receives meanwhile, and all of that is counted once. One that is killed while it waits, and one that is
// stopped, have lost nothing.
func TestCrateAway_AtTheStart(t *testing.T) {
	needLong(t, "starts a database of its own")
	node := cratetest.LaunchCluster(t, 1).Nodes[0]
	b := newBus(t, 100_000, 64)
	c := &cluster{t: t, url: node.URL + "later?sslmode=disable", more: map[string]string{"endpoints": endpoints(map[string][]int{"bus": {b.port}})}}
	c.waitTables()
	consume, compute, serve := c.site(), c.site(), c.site()
	d := consume.launch("consume")
	d.waitJoined()
	b.waitSubscribers(1)
	b.publishFor(200, time.Second)
	d.waitFor(time.Minute, "archived", func() error { // so that its stream is known
		s, err := d.look()
		if err == nil && s.Owned != b.sent {
			err = errors.New("not all is archived")
		}
		return err
	})
	d.stop()
	archived := b.sent
	node.Kill()

	for _, end := range []func(*daemon){(*daemon).kill, (*daemon).stop} {
		d = consume.launch("consume")
		held := d.waitSign(20*time.Second, "the store takes no events: nothing listens at "+node.Address())
		if held.storeUp != 0 {
			t.Errorf("store_up is %v while there is no database", held.storeUp)
		}
		b.waitSubscribers(1)
		b.publishFor(200, time.Second)
		d.waitFor(20*time.Second, "all is in the early inbox", func() error {
			dir := t.TempDir()
			copyTree(t, filepath.Join(consume.data, "journal-early"), dir)
			if n := int64(len(readInbox(t, dir, 0))); n != b.sent-archived {
				return fmt.Errorf("%d of %d events are", n, b.sent-archived)
			}
			return nil
		})
		end(d)
	}
	all := []*daemon{consume.launch("consume"), compute.launch("compute"), serve.launch("serve")}
	for i, says := range []string{"the store takes no events: nothing listens at ", "leases can't be kept: nothing listens at ", "the store does not answer: nothing listens at "} {
		all[i].waitSign(20*time.Second, says+node.Address())
	}
	if code, body, err := get("http://" + all[2].api + "/api/volume-1m"); err != nil || code != http.StatusServiceUnavailable {
		t.Errorf("the API without a store: %d, %v: %s", code, err, body)
	}
	b.waitSubscribers(1)
	b.publishFor(200, 2*time.Second)
	if r := consume.run("status"); r.code != 1 || !strings.Contains(r.stdout, "red: consume archive: the store takes no events: nothing listens at ") {
		t.Errorf("status: %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	begin := time.Now() // what comes while the database starts comes into either inbox
	back := make(chan error, 1)
	go func() { back <- node.Start() }()
	b.publish(200, func() bool { return len(back) > 0 && time.Since(begin) > 2*time.Second })
	if err := <-back; err != nil {
		t.Fatal(err)
	}
	b.publishFor(200, 2*time.Second)
	for _, d := range all {
		d.waitJoined()
		if n := strings.Count(d.stderr.String(), "nothing listens at"); n == 0 || n > 3 {
			t.Errorf("the log says %d times what is missing:\n%s", n, tail(d.stderr.String()))
		}
	}
	c.waitCounted(all[2], b.sent)
	b.check(all[2])
	all[0].waitFor(20*time.Second, "the early inbox is gone", func() error {
		_, err := os.Stat(filepath.Join(consume.data, "journal-early"))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return errors.Join(err, errors.New("it is there"))
	})
	for _, d := range all {
		d.stop()
	}
	c.site().verifyClean()
}

// TestCrateAway_AtTheStart_WithoutAQuorum: a cluster of which too few nodes are left answers some questions. A consumer that
// is started on it waits, and receives meanwhile.
func TestCrateAway_AtTheStart_WithoutAQuorum(t *testing.T) {
	needLong(t, "starts a cluster of its own")
	db := cratetest.LaunchCluster(t, 3)
	b := newBus(t, 100_000, 64)
	c := &cluster{t: t, url: db.Nodes[0].URL + "quorum?sslmode=disable", more: map[string]string{"endpoints": endpoints(map[string][]int{"bus": {b.port}})}}
	c.waitTables()
	site := c.site()
	d := site.launch("consume")
	d.waitJoined()
	d.stop()
	if err := poll(time.Minute, func() error { return db.Whole(t.Context()) }); err != nil {
		t.Fatal(err)
	}
	for _, n := range db.Nodes[1:] {
		n.Kill()
	}
	d = site.launch("consume")
	began := time.Now()
	held := d.waitSign(time.Minute, "the store takes no events")
	b.waitSubscribers(1)
	t.Logf("receives %s after its start, store_up %v", time.Since(began).Round(100*time.Millisecond), held.storeUp)
	b.publishFor(200, 2*time.Second)
	back := make(chan error, 2)
	for _, n := range db.Nodes[1:] {
		go func() { back <- n.Start() }()
	}
	for range 2 {
		if err := <-back; err != nil {
			t.Fatal(err)
		}
	}
	d.waitJoined()
	d.waitFor(time.Minute, "archived", func() error {
		s, err := d.look()
		if err == nil && s.Owned != b.sent {
			err = fmt.Errorf("%d of %d events", s.Owned, b.sent)
		}
		return err
	})
	d.stop()
}
