package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestImport_MalformedMessageOfAServiceTouchesNothingElse brings in a golden stream with messages among it that have not
// the shape that their service's plugin reads: they are events like any other, no plugin stumbles, and every golden number
// stays.
func TestImport_MalformedMessageOfAServiceTouchesNothingElse(t *testing.T) {
	t.Parallel()
	g := goldens(t)[0]
	after := time.Date(2018, 5, 10, 12, 0, 0, 0, time.UTC) // later than all golden windows
	var lines strings.Builder
	n := int64(0)
	for _, topic := range []string{
		"io.pagure.prod.pagure.git.receive", "io.pagure.prod.pagure.issue.new", "io.pagure.prod.pagure.pull-request.new",
		"org.fedoraproject.prod.compose.rawhide.complete", "org.fedoraproject.prod.bodhi.updates.fedora.sync", "org.fedoraproject.prod.fedimg.image.upload",
		"org.fedoraproject.prod.buildsys.task.state.change",
	} {
		for _, msg := range []string{`{}`, `null`, `"text"`, `[1]`, `{"repo":null,"project":null,"pullrequest":null,"owner":null}`,
			`{"repo":"x","project":["y"],"pullrequest":5,"owner":"masher","method":7,"srpm":{},"new":[],"info":"i","status":"completed","extra":0}`,
			`{"agent":"ralph","commit":{"agent":"ralph"}}`} {
			n++
			fmt.Fprintf(&lines, `{"msg_id":"2018-malformed-%d","topic":%q,"timestamp":%d,"i":%d,"msg":%s}`+"\n", n, topic, after.Unix(), n, msg)
		}
	}
	malformed := filepath.Join(t.TempDir(), "malformed.jsonl")
	if err := os.WriteFile(malformed, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, nil)
	s.mustRun("import", malformed, g.file)
	d := s.start()
	d.waitCaughtUp(time.Minute)
	g.checkUntil(t, d, strconv.FormatInt(after.Unix(), 10), 10_000)
	if got := d.total("volume-1m", ""); got != g.events+n {
		t.Errorf("%d events counted, want %d", got, g.events+n)
	}
	plugins, err := d.plugins()
	if err != nil {
		t.Fatal(err)
	}
	for id, p := range plugins {
		if p.State != "running" || p.Restarts > 0 || p.DeadLetters > 0 && id != "pagure" && id != "releng" {
			t.Errorf("plugin %s: %+v", id, p)
		}
	}
	d.stop()
	s.verifyClean()
}
