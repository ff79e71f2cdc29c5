package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/mattn/go-isatty"

	"github.com/statscache/statscache/consumer"
)

// tailPrinter prints messages as fedmsg-tail does, but that whole messages are JSON rather than Python.
type tailPrinter struct {
	out    io.Writer
	flags  tailFlags
	wanted wanted
	query  [][]string
	colour bool
}

func newTailPrinter(out io.Writer, f tailFlags) (*tailPrinter, error) {
	w, err := newWanted(f)
	if err != nil {
		return nil, err
	}
	p := &tailPrinter{out: out, flags: f, wanted: w}
	if f.query != "" {
		for q := range strings.SplitSeq(f.query, ",") {
			p.query = append(p.query, strings.Split(strings.TrimSpace(q), "."))
		}
	}
	if file, ok := out.(*os.File); ok {
		p.colour = isatty.IsTerminal(file.Fd())
	}
	return p, nil
}

// event prints a message that is wanted.
func (p *tailPrinter) event(e consumer.TailEvent) error {
	if !p.wanted.shows(e) {
		return nil
	}
	text, err := p.format(e)
	if err != nil {
		return fmt.Errorf("print a message of %s: %w", e.Topic, err)
	}
	_, err = io.WriteString(p.out, text+"\n")
	return err
}

// format decides as fedmsg-tail does where several flags are given: the later one here wins.
func (p *tailPrinter) format(e consumer.TailEvent) (text string, err error) {
	switch {
	case p.flags.terse:
		return "\n" + terse(e), nil
	case p.query != nil:
		return queried(e.Body, p.query)
	case p.flags.reallyPretty:
		if text, err = pretty(e, false); err == nil && p.colour {
			text = coloured(text)
		}
		return "\n" + text, err
	case p.flags.pretty:
		text, err = pretty(e, true)
		return "\n" + text, err
	}
	var line bytes.Buffer
	if err := json.Compact(&line, e.Body); err != nil {
		return "", err
	}
	return harmless(line.String()), nil
}

// terse is a line of what is known of a message. (fedmsg-tail has English sentences here, from a package of rules.)
func terse(e consumer.TailEvent) string {
	text := e.Time.Format(time.RFC3339) + " " + e.Topic
	if len(e.Users) > 0 {
		text += " users=" + strings.Join(e.Users, ",")
	}
	if len(e.Packages) > 0 {
		text += " packages=" + strings.Join(e.Packages, ",")
	}
	return printable(text)
}

// pretty is the message indented and without credentials; with ctime its time is written as C does.
func pretty(e consumer.TailEvent, ctime bool) (string, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(e.Body, &fields); err != nil {
		return "", err
	}
	delete(fields, "signature")
	delete(fields, "certificate")
	if _, ok := fields["timestamp"]; ok && ctime {
		fields["timestamp"] = json.RawMessage(`"` + e.Time.Format(time.ANSIC) + `"`)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(fields); err != nil {
		return "", err
	}
	return harmless(strings.TrimSuffix(out.String(), "\n")), nil
}

// queried gives the values at dotted paths, as Python's str writes simple ones.
func queried(body []byte, query [][]string) (string, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var message map[string]any
	if err := d.Decode(&message); err != nil {
		return "", err
	}
	var values []string
	for _, path := range query {
		text, err := valueText(lookUp(message, path))
		if err != nil {
			return "", err
		}
		values = append(values, text)
	}
	return printable(strings.Join(values, ", ")), nil
}

func lookUp(in map[string]any, path []string) any {
	v := in[path[0]]
	if len(path) == 1 {
		return v
	}
	if inner, ok := v.(map[string]any); ok {
		return lookUp(inner, path[1:])
	}
	return nil
}

func valueText(v any) (string, error) {
	switch x := v.(type) {
	case nil:
		return "None", nil
	case bool:
		if x {
			return "True", nil
		}
		return "False", nil
	case string:
		return x, nil
	case json.Number:
		return x.String(), nil
	}
	text, err := json.Marshal(v)
	return string(text), err
}

// harmless escapes what steers terminals and may stand in JSON unescaped.
func harmless(text string) string {
	if !strings.ContainsFunc(text, steers) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if steers(r) {
			fmt.Fprintf(&b, "\\u%04x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func steers(r rune) bool { return r >= 0x7f && r < 0xa0 }

// coloured marks the keys and strings of indented JSON.
func coloured(text string) string {
	token := regexp.MustCompile(`"(?:[^"\\]|\\.)*"(:?)`)
	return token.ReplaceAllStringFunc(text, func(s string) string {
		if key, ok := strings.CutSuffix(s, ":"); ok {
			return "\x1b[34m" + key + "\x1b[0m:"
		}
		return "\x1b[32m" + s + "\x1b[0m"
	})
}
