package fedmsg

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/statscache/statscache/internal/block"
)

// truth is what a generated event is about.
type truth struct{ users, packages []string }

// generated makes events that carry no headers with the generator that stands beside the repository on developers'
// machines, and what each is about.
func generated(t testing.TB, n, seed string) (events [][]byte, about map[string]truth) {
	t.Helper()
	const tool = "../../../shared/tools/gen_events.py"
	if _, err := os.Stat(tool); err != nil {
		t.Skipf("SKIPPED: the comparison with generated events needs %s: %v", tool, err)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skipf("SKIPPED: the comparison with generated events needs python3: %v", err)
	}
	dir := t.TempDir()
	out, told := filepath.Join(dir, "events"), filepath.Join(dir, "truth")
	run := exec.CommandContext(t.Context(), python, tool, "--n", n, "--seed", seed, "--no-headers", "--out", out, "--truth", told)
	if text, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", tool, err, text)
	}
	lines(t, out, func(line string) { events = append(events, []byte(line)) })
	about = map[string]truth{}
	lines(t, told, func(line string) {
		f := strings.Split(line, "\t")
		about[f[0]] = truth{split(f[1]), split(f[2])}
	})
	return events, about
}

func lines(t testing.TB, path string, each func(string)) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		each(in.Text())
	}
	if err := in.Err(); err != nil {
		t.Fatal(err)
	}
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func TestShippedRules_GeneratedEvents(t *testing.T) {
	events, about := generated(t, "20000", "1")
	s := NewScanner(Limits{})
	s.SetRules(shipped(t))
	var users, packages score
	var ev block.Event
	wrong := map[string]int{}
	examples := map[string]string{}
	never := func(string) bool { return false }
	for _, body := range events {
		if s.Scan(nil, body, 1<<60, &ev) != Accepted {
			t.Fatalf("%s: %s", s.Detail(), body)
		}
		known := about[string(ev.ID)]
		u, p := texts(ev.Users), texts(ev.Packages)
		users.add(u, known.users, never)
		packages.add(p, known.packages, never)
		slices.Sort(u)
		slices.Sort(p)
		note := func(what string, ours, known []string) {
			if !slices.Equal(ours, known) {
				key := what + " of " + string(ev.Topic)
				if wrong[key]++; wrong[key] == 1 {
					examples[key] = strings.Join(ours, ",") + " instead of " + strings.Join(known, ",") + ": " + string(body)
				}
			}
		}
		note("users", u, known.users)
		note("packages", p, known.packages)
	}
	for key, n := range wrong {
		t.Logf("%d x %s: %.700s", n, key, examples[key])
	}
	for _, r := range []struct {
		what  string
		score score
	}{{"users", users}, {"packages", packages}} {
		t.Logf("%s: %.4f of ours right, %.4f of the known found (%+v)", r.what, r.score.precision(), r.score.recall(), r.score)
		if r.score.precision() < 0.98 || r.score.recall() < 0.98 {
			t.Errorf("%s: wanted is 0.98", r.what)
		}
	}
}
