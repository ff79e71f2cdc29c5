package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/consumer"
)

func TestTail_PrintsAsAsked(t *testing.T) {
	body := `{"topic":"org.x.git.receive","timestamp":1524744051.5, "msg":{"n":12345678901234567890,"ok":true,"none":null,"name":"a\u001bb` + "\u009b" + `","l":[1]},"i":1,"signature":"s","certificate":"c"}`
	e := consumer.TailEvent{Topic: "org.x.git.receive", Time: time.Unix(1524744051, 5e8).UTC(), Users: []string{"ann", "bob"}, Packages: []string{"go"}, Body: []byte(body)}
	for name, c := range map[string]struct {
		flags tailFlags
		want  string
	}{
		"whole": {tailFlags{}, `{"topic":"org.x.git.receive","timestamp":1524744051.5,"msg":{"n":12345678901234567890,"ok":true,"none":null,"name":"a\u001bb\u009b","l":[1]},"i":1,"signature":"s","certificate":"c"}` + "\n"},
		"pretty": {tailFlags{pretty: true}, "\n{\n  \"i\": 1,\n  \"msg\": {\n    \"n\": 12345678901234567890,\n    \"ok\": true,\n    \"none\": null,\n    \"name\": \"a\\u001bb\\u009b\",\n    \"l\": [\n      1\n    ]\n  },\n" +
			"  \"timestamp\": \"Thu Apr 26 12:00:51 2018\",\n  \"topic\": \"org.x.git.receive\"\n}\n"},
		"terse":          {tailFlags{terse: true, pretty: true, query: "i"}, "\n2018-04-26T12:00:51Z org.x.git.receive users=ann,bob packages=go\n"},
		"query":          {tailFlags{query: "msg.n, msg.ok,msg.none,msg.nothing,i.deeper,msg.l,topic", pretty: true}, "12345678901234567890, True, None, None, None, [1], org.x.git.receive\n"},
		"query, harmful": {tailFlags{query: "msg.name"}, "a\uFFFDb\uFFFD\n"},
		"its users":      {tailFlags{query: "i", users: "carl, bob"}, "1\n"},
		"other users":    {tailFlags{query: "i", users: "carl,bo"}, ""},
		"its packages":   {tailFlags{query: "i", packages: "go"}, "1\n"},
		"other packages": {tailFlags{query: "i", packages: "gob", users: "ann"}, ""},
		"excluded":       {tailFlags{query: "i", exclude: "git"}, ""},
		"included":       {tailFlags{query: "i", include: `\.git\.`, exclude: "_heartbeat"}, "1\n"},
		"not included":   {tailFlags{query: "i", include: "bodhi"}, ""},
	} {
		var out bytes.Buffer
		p, err := newTailPrinter(&out, c.flags)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.event(e); err != nil || out.String() != c.want {
			t.Errorf("%s: %v\n%q, want\n%q", name, err, out.String(), c.want)
		}
	}
	var usage usageError
	for _, f := range []tailFlags{{include: "("}, {exclude: "("}} {
		if _, err := newTailPrinter(&bytes.Buffer{}, f); !errors.As(err, &usage) {
			t.Errorf("%+v: %v, want bad usage", f, err)
		}
	}
	p := tailPrinter{flags: tailFlags{reallyPretty: true}, colour: true}
	if text, err := p.format(e); err != nil || !strings.Contains(text, "\x1b[34m\"i\"\x1b[0m: 1") || !strings.Contains(text, ": 1524744051.5") {
		t.Errorf("colours: %v, %q", err, text)
	}
}
