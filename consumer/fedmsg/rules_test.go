package fedmsg

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/statscache/statscache/internal/block"
)

// scanWith scans a body of topic org.a.prod.svc.thing with rules written as in a file.
func scanWith(t testing.TB, text, body string) *block.Event {
	t.Helper()
	list, err := ParseRules("own.txt", text)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := CompileRules(list...)
	if err != nil {
		t.Fatal(err)
	}
	s := NewScanner(Limits{})
	s.SetRules(rules)
	var ev block.Event
	if s.Scan([]byte("org.a.prod.svc.thing"), []byte(body), 1<<60, &ev) != Accepted {
		t.Fatal(s.Detail())
	}
	return &ev
}

// found gives the users that one source finds in a msg.
func found(t testing.TB, source, msg string) []string {
	t.Helper()
	return texts(scanWith(t, "topic **\n users "+source, `{"msg_id":"1","topic":"org.a.prod.svc.thing","username":"apache","msg":`+msg+`}`).Users)
}

func TestRule_Transforms(t *testing.T) {
	cases := []struct{ transforms, text, want string }{
		{"", "ralph", "ralph"},
		{"", "Ralph Bean", ""}, // no name has blanks
		{"", "", ""},
		{"", "tab\there", ""},
		{"", strings.Repeat("x", MaxNameBytes), strings.Repeat("x", MaxNameBytes)},
		{"", strings.Repeat("x", MaxNameBytes+1), ""},
		{"", "Jörg", "Jörg"},
		{"email", "ralph@fedoraproject.org", "ralph"},
		{"email", "Ralph Bean <ralph@example.org>", "ralph"},
		{"email", `"a <b>" <c@d>`, "c"},
		{"email", "ralph", ""},
		{"email", "ralph@", ""},
		{"email", "@host", ""},
		{"email:fedoraproject.org", "ralph@FedoraProject.org", "ralph"},
		{"email:fedoraproject.org", "olasd@debian.org", ""},
		{"email:fedoraproject.org", "x@lists.fedoraproject.org", ""},
		{"email:a.org,b.org", "ralph@b.org", "ralph"},
		{"subdomain:id.fedoraproject.org", "http://ralph.id.fedoraproject.org/", "ralph"},
		{"subdomain:id.fedoraproject.org", "ralph.id.fedoraproject.org", "ralph"},
		{"subdomain:id.fedoraproject.org", "https://ralph.ID.fedoraproject.org:443/x?y", "ralph"},
		{"subdomain:id.fedoraproject.org", "https://id.fedoraproject.org/", ""},
		{"subdomain:id.fedoraproject.org", "https://a.b.id.fedoraproject.org/", ""},
		{"subdomain:id.fedoraproject.org", "https://example.org/ralph.id.fedoraproject.org", ""},
		{"nvr", "python-requests-2.18.4-3.fc28", "python-requests"},
		{"nvr", "nodejs-12-2920190525130817.6c81f848", "nodejs"},
		{"nvr", "kernel", ""},
		{"nvr", "a-1", ""},
		{"nvr", "-1-1", ""},
		{"nvr", "a--1", ""},
		{"nvr", "some-other-thing", ""},
		{"name", "python-requests-2.18.4-3.fc28", "python-requests"},
		{"name", "some-other-thing", "some-other-thing"},
		{"last", "https://pagure.io/rpms/kernel", "kernel"},
		{"last", "https://pagure.io/rpms/kernel/?x=1#y", "kernel"},
		{"last", "kernel", "kernel"},
		{"last", "///", ""},
		{"trim:.git last", "/git/ansible.git", "ansible"},
		{"last trim:.git", "/git/ansible.git", "ansible"},
		{"lower", "Ralph", "ralph"},
		{"part:2", "a.b.c", "b"},
		{"part:3", "a.b.c", "c"},
		{"part:4", "a.b.c", ""},
		{"part:2", "a..c", ""},
		{"each", "a, b;c  d\n,", "a b c d"},
		{"each nvr", "a-1-1 b-2-1.fc18,c", "a b"},
		{"each each", "a b", "a b"},
		{"before:_", "a_b_c", "a"},
		{"before:_", "abc", ""},
		{"after:/", "rpms/kernel", "kernel"},
		{"after:/", "kernel", ""},
		{"without:github_org_", "github_org_fedora", ""},
		{"without:github_org_", "ralph", "ralph"},
		{"not:bodhi,zodbot", "zodbot", ""},
		{"not:bodhi,zodbot", "ralph", "ralph"},
		{"only:anitya", "anitya", "anitya"},
		{"only:anitya", "apache", ""},
		{"plain", "ralph_b.e-an+1", "ralph_b.e-an+1"},
		{"plain", "ralph@host", ""},
		{"plain", strings.Repeat("x", 101), ""},
		{"as:kernel", "whatever", "kernel"},
		{"each mention", "Thanks! /cc @codeblock, @ralph. me@home", "codeblock ralph"},
	}
	used := map[string]bool{}
	for _, c := range cases {
		msg := fmt.Sprintf(`{"x":%q}`, c.text)
		if got := strings.Join(found(t, c.transforms+" /msg/x", msg), " "); got != c.want {
			t.Errorf("%s of %.60q: %.60q, want %.60q", c.transforms, c.text, got, c.want)
		}
		for word := range strings.FieldsSeq(c.transforms) {
			name, _, _ := strings.Cut(word, ":")
			used[name] = true
		}
	}
	for name := range transformNames() {
		if !used[name] {
			t.Errorf("%s is not tried", name)
		}
	}
}

func TestRule_Paths(t *testing.T) {
	const msg = `{
		"agent": "a", "list": ["b", "c", {"d": "e"}, ["f"], 5, null, true], "empty": {}, "none": [],
		"o": {"x": "1", "y": {"x": "2"}, "z": [{"x": "3"}, {"x": ["4"]}]},
		"packages": [{"distro": "Fedora", "name": "p"}, {"distro": "Debian", "name": "q"}, {"name": "r"}],
		"deep": {"a": {"kind": "user", "b": {"ok": "yes", "c": "s"}}},
		"rows": [["u", "file", "v"], ["w"], [["t", {"x": "no"}]]],
		"\u0061sc": "k", "quoted": "a\"\u0062\\", "dup": "m", "dup": "n"}`
	cases := []struct {
		path string
		want string
	}{
		{"/msg/agent", "a"},
		{"/msg/nothing", ""},
		{"/msg/agent/more", ""},
		{"/msg/list", "b c f"},
		{"/msg/list/d", "e"},
		{"/msg/o/x", "1"},
		{"/msg/o/*/x", "2 3 4"},
		{"/msg/*/x", "1 no"},
		{"/msg/o/~key", "x y z"},
		{"/msg/empty/~key", ""},
		{"/msg/none", ""},
		{"/msg/packages[distro=Fedora]/name", "p"},
		{"/msg/packages[distro!=Fedora]/name", "q r"},
		{"/msg/packages[!distro]/name", "r"},
		{"/msg/packages[distro=Debian][name=q]/name", "q"},
		{"/msg/packages[distro=Debian][name=p]/name", ""},
		{"/msg/packages[name=p]/distro", "Fedora"},
		{"/msg/deep/a[kind=user]/b[ok=yes]/c", "s"},
		{"/msg/deep/a[kind=user]/b[ok=no]/c", ""},
		{"/msg/deep[a=x]/a/kind", ""},
		{"/msg[agent=a]/o/x", "1"},
		{"/msg[agent=b]/o/x", ""},
		{"/msg[!empty]/agent", ""},
		{"/msg/rows/#1", "u w t"},
		{"/msg/rows/#3", "v"},
		{"/msg/asc", "k"},
		{"/msg/quoted", `a"b\`},
		{"/msg/dup", "m n"},
		{"/username", "apache"},
		{"part:4 /topic", "svc"},
	}
	for _, c := range cases {
		if got := strings.Join(found(t, c.path, msg), " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.path, got, c.want)
		}
	}
	for _, odd := range []string{`"text"`, `["ralph"]`, `5`, `null`, `[]`, `{}`} {
		if got := found(t, "/msg/agent", odd); len(got) > 0 {
			t.Errorf("%s: %q", odd, got)
		}
	}
	if got := found(t, "/msg", `["ralph"]`); !slices.Equal(got, []string{"ralph"}) {
		t.Errorf("a msg that is a list: %q", got)
	}
}

func TestRules_TopicPatterns(t *testing.T) {
	cases := []struct {
		pattern, topic string
		want           bool
	}{
		{"a.b", "a.b", true},
		{"a.b", "a.b.c", false},
		{"a.b", "a", false},
		{"a.*", "a.b", true},
		{"a.*", "a", false},
		{"a.*", "a.b.c", false},
		{"*.*.*.git.**", "org.fedoraproject.prod.git.receive.x", true},
		{"*.*.*.git.**", "org.fedoraproject.prod.git", true},
		{"*.*.*.git.**", "org.fedoraproject.prod.pagure.git.receive", false},
		{"**", "", true},
		{"**.build", "x.y.build", true},
		{"**.build", "build", true},
		{"**.build", "build.x", false},
		{"**.a.**", "x.a.y", true},
		{"**.a.**", "x.b.y", false},
		{"a b.*", "b.c", true},
	}
	for _, c := range cases {
		rules, err := CompileRules(Rule{Topic: c.pattern, Users: []string{}})
		if err != nil {
			t.Fatal(err)
		}
		if got := rules.choose(c.topic)[users] == 0; got != c.want {
			t.Errorf("%q on %q: %v", c.pattern, c.topic, got)
		}
	}
}

// TestRules_FirstThatSpeaks: for each part the first rule counts that says something of it.
func TestRules_FirstThatSpeaks(t *testing.T) {
	ev := scanWith(t, `
# own
topic other.topic
 users /msg/no
topic org.a.**
 agent /msg/a
 agent /msg/b

topic *.*.*.svc.thing
 packages none
topic **
 users /msg/b
 users /msg/a
 users /msg/c
 packages /msg/a
 agent /msg/c
`, `{"msg":{"a":"","b":"bob","c":"bob"}}`)
	if u, p := texts(ev.Users), texts(ev.Packages); !slices.Equal(u, []string{"bob"}) || p != nil || string(ev.Agent) != "bob" {
		t.Errorf("users %q, packages %q, agent %q", u, p, ev.Agent)
	}
}

func TestRules_HeadersComeFirst(t *testing.T) {
	const rules = "topic **\n users /msg/agent\n packages /msg/package\n agent /msg/agent\n agent sole-user"
	cases := []struct{ headers, msg, users, packages, agent string }{
		{`{"fedora_messaging_user_bob":true}`, `{"agent":"ann","package":"p"}`, "bob", "", "ann"},
		{`{"fedora_messaging_rpm_q":true}`, `{"agent":"ann","package":"p"}`, "", "q", "ann"},
		{`{"fedora_messaging_severity":20}`, `{"agent":"ann","package":"p"}`, "ann", "p", "ann"},
		{`null`, `{"agent":"ann","package":"p"}`, "ann", "p", "ann"},
		{`{"fedora_messaging_user_bob":true}`, `{}`, "bob", "", "bob"},
		{`{"fedora_messaging_user_bob":true,"fedora_messaging_user_eve":true}`, `{}`, "bob eve", "", ""},
	}
	for _, c := range cases {
		ev := scanWith(t, rules, `{"headers":`+c.headers+`,"msg":`+c.msg+`}`)
		u, p := strings.Join(texts(ev.Users), " "), strings.Join(texts(ev.Packages), " ")
		if u != c.users || p != c.packages || string(ev.Agent) != c.agent {
			t.Errorf("%s %s: users %q, packages %q, agent %q", c.headers, c.msg, u, p, ev.Agent)
		}
	}
}

// TestSetRules_FromTheNextMessageOn changes rules while a scanner runs, and takes them away.
func TestSetRules_FromTheNextMessageOn(t *testing.T) {
	s := NewScanner(Limits{})
	body := []byte(`{"topic":"t","msg_id":"1","msg":{"a":"ann","b":"bob"}}`)
	for _, source := range []string{"/msg/a", "/msg/b", ""} {
		want := map[string][]string{"/msg/a": {"ann"}, "/msg/b": {"bob"}}[source]
		if source == "" {
			s.SetRules(nil)
		} else {
			rules, err := CompileRules(Rule{Topic: "t", Users: []string{source}})
			if err != nil {
				t.Fatal(err)
			}
			s.SetRules(rules)
		}
		var ev block.Event
		if s.Scan(nil, body, 1<<60, &ev) != Accepted || !slices.Equal(texts(ev.Users), want) {
			t.Errorf("with %q: %q", source, ev.Users)
		}
	}
}

// TestRules_AreBounded: a message may not name without end, and topics without end take no memory without end.
func TestRules_AreBounded(t *testing.T) {
	var list strings.Builder
	for i := range 3 * maxMatches {
		fmt.Fprintf(&list, `,"u%d v%d"`, i, i)
	}
	if n := len(found(t, "each /msg", `[`+list.String()[1:]+`]`)); n != maxMatches {
		t.Errorf("%d names, allowed are %d", n, maxMatches)
	}
	s := NewScanner(Limits{})
	s.SetRules(shipped(t))
	var ev block.Event
	s.Scan(nil, []byte(`{"topic":"t","msg_id":"1","msg":{"agent":[`+strings.Repeat(`"ann",`, 2*maxMatches)+`"bob"]}}`), 1<<60, &ev)
	if n := len(s.matched.matches); n != maxMatches || !slices.Equal(texts(ev.Users), []string{"ann"}) {
		t.Errorf("%d places were looked at, allowed are %d; users %q", n, maxMatches, ev.Users)
	}
	for i := range 2*maxTopics + 10 {
		s.Scan(nil, fmt.Appendf(nil, `{"topic":"org.a.prod.svc%d.x","msg_id":"1","msg":{"agent":"ann"}}`, i), 1<<60, &ev)
	}
	if n := len(s.ready.byTopic); n > maxTopics || len(ev.Users) != 1 {
		t.Errorf("%d topics are kept, users %q", n, ev.Users)
	}
}

func TestScanRules_AllocatesNothing(t *testing.T) {
	s := NewScanner(Limits{})
	s.SetRules(shipped(t))
	bodies := [][]byte{typical(), []byte(`{"msg":{"name":"stage","owner":"ralph","user":"bodhi"},"msg_id":"1","timestamp":1,"topic":"org.fedoraproject.prod.buildsys.tag"}`)}
	var ev block.Event
	if n := testing.AllocsPerRun(100, func() {
		for _, body := range bodies {
			if s.Scan(nil, body, received, &ev) != Accepted {
				t.Fatal(s.Detail())
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations a message", n)
	}
}

func TestParseRules_SaysFileAndLine(t *testing.T) {
	cases := []struct{ text, want string }{
		{"users /msg/a", "f:1: the first rule must begin with its topic"},
		{"topic a\n\nuser /msg/a", `f:3: "user" is no part of a rule: topic, users, packages or agent`},
		{"topic a\nusers", `f:2: users: "": is empty`},
		{"topic a\nusers /msg/a\nusers none", "f:3: users: none, though there are lines before"},
		{"topic a\nusers none\nusers /msg/a", "f:3: users: a line before says none"},
		{"topic a\nagent emial /msg/a", `f:2: agent: "emial /msg/a": has the unknown transform "emial"`},
		{"topic a\nusers /msg/a\nusers msg/b\npackages /mgs", "f:3: users: \"msg/b\": ends with no path, which begins with /msg, /username or /topic\nf:4: packages: \"/mgs\": must begin"},
		{strings.Repeat("#", maxRulesBytes+1), "f: 1048577 bytes; allowed are 1048576"},
	}
	for _, c := range cases {
		if _, err := ParseRules("f", c.text); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%.60q: %v, want %q", c.text, err, c.want)
		}
	}
	got, err := ParseRules("f", "topic a b\ntopic c\n\tusers\t/msg/a  # no comment\n")
	if err == nil {
		t.Errorf("a comment behind a source passed: %+v", got)
	}
	got, err = ParseRules("f", "\n topic a b\n topic c\n\tusers\t/msg/a\n packages none\n")
	want := []Rule{{Topic: "a b c", Users: []string{"/msg/a"}, Packages: []string{}, Origin: "f:2"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCompileRules_SaysWhatIsWrong(t *testing.T) {
	many := slices.Repeat([]string{"/msg/a"}, maxSources+1)
	cases := []struct {
		rule Rule
		want string
	}{
		{Rule{Users: []string{"/msg"}}, "topic is empty"},
		{Rule{Topic: "a..b", Users: []string{"/msg"}}, `topic "a..b" has an empty part`},
		{Rule{Topic: "a*", Users: []string{"/msg"}}, "* stands for a whole part"},
		{Rule{Topic: "**.**.**", Users: []string{"/msg"}}, "more than twice"},
		{Rule{Topic: strings.Repeat("a", maxText+1), Users: []string{"/msg"}}, "allowed are 1024"},
		{Rule{Topic: "a"}, "says nothing"},
		{Rule{Topic: "a", Users: many}, "65 sources; allowed are 64"},
		{Rule{Topic: "a", Users: []string{"/msg" + strings.Repeat("/a", maxSegments)}}, "has 17 steps, allowed are 16"},
		{Rule{Topic: "a", Users: []string{strings.Repeat("lower ", 17) + "/msg"}}, "has 17 transforms"},
		{Rule{Topic: "a", Users: []string{strings.Repeat("a", maxText+1)}}, "has 1025 bytes"},
		{Rule{Topic: "a", Users: []string{"sole-user"}}, "is for the agent alone"},
		{Rule{Topic: "a", Users: []string{"/username/x"}}, "goes on behind /username"},
		{Rule{Topic: "a", Users: []string{"/msg//x"}}, "empty step"},
		{Rule{Topic: "a", Users: []string{"/msg/~key/x"}}, "goes on behind ~key"},
		{Rule{Topic: "a", Users: []string{"/msg/~keys"}}, "~key stands for"},
		{Rule{Topic: "a", Users: []string{"/msg/a*"}}, "no step of its own"},
		{Rule{Topic: "a", Users: []string{"/msg/#0"}}, "no place in a list"},
		{Rule{Topic: "a", Users: []string{"/msg/#1/a"}}, "no place in a list"},
		{Rule{Topic: "a", Users: []string{"/msg/a[b=c"}}, "[ without its ]"},
		{Rule{Topic: "a", Users: []string{"/msg/ab]"}}, "] without its ["},
		{Rule{Topic: "a", Users: []string{"/msg/a[b=c]d/e"}}, "behind a ]"},
		{Rule{Topic: "a", Users: []string{"/msg/a[b=c]"}}, "ends with a condition"},
		{Rule{Topic: "a", Users: []string{"/msg/a[]"}}, "arrays need no mark"},
		{Rule{Topic: "a", Users: []string{"/msg/a[=c]/d"}}, "must be [key=text]"},
		{Rule{Topic: "a", Users: []string{"/msg/a[!]/d"}}, "must be [key=text]"},
		{Rule{Topic: "a", Users: []string{"nvr:x /msg/a"}}, "tells nvr something"},
		{Rule{Topic: "a", Users: []string{"email: /msg/a"}}, "email:a,b"},
		{Rule{Topic: "a", Users: []string{"not /msg/a"}}, "not:a,b"},
		{Rule{Topic: "a", Users: []string{"before /msg/a"}}, "before:text"},
		{Rule{Topic: "a", Users: []string{"part:0 /msg/a"}}, "part:1 is the first"},
	}
	for _, c := range cases {
		c.rule.Origin = "/etc/fedmsg.d/x.py:7"
		_, err := CompileRules(c.rule)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "/etc/fedmsg.d/x.py:7: ") {
			t.Errorf("%.60q: %v, want %q", c.rule, err, c.want)
		}
	}
	if _, err := CompileRules(make([]Rule, maxRules+1)...); err == nil || !strings.Contains(err.Error(), "allowed are 4096") {
		t.Errorf("too many rules: %v", err)
	}
}
