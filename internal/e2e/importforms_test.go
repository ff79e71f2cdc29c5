package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/consumer/source/file"
	"github.com/statscache/statscache/internal/fakearchive"
)

// columnsOf gives a message as datanommer's table has it; nil is NULL.
func columnsOf(t *testing.T, row fakearchive.Row) []*string {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal(row.Raw, &m); err != nil {
		t.Fatal(err)
	}
	m["agent_name"] = m["username"]
	out := make([]*string, len(file.Columns))
	for i, name := range file.Columns {
		value, ok := m[name]
		if !ok || string(value) == "null" || value == nil {
			continue
		}
		text := string(value)
		if name == "timestamp" {
			text = time.UnixMicro(int64(row.Time * 1e6)).UTC().Format("2006-01-02 15:04:05.999999")
		} else if text[0] == '"' {
			if err := json.Unmarshal(value, &text); err != nil {
				t.Fatal(err)
			}
		}
		out[i] = &text
	}
	return out
}

// inForm writes messages as people have them.
func inForm(t *testing.T, form string, rows []fakearchive.Row) string {
	t.Helper()
	var out []string
	for _, row := range rows {
		switch form {
		case "lines", "page":
			out = append(out, string(row.Raw))
		case "dump":
			var m map[string]json.RawMessage
			if err := json.Unmarshal(row.Raw, &m); err != nil {
				t.Fatal(err)
			}
			headers := map[string]json.RawMessage{}
			if h := m["headers"]; h != nil && string(h) != "null" {
				if err := json.Unmarshal(h, &headers); err != nil {
					t.Fatal(err)
				}
			}
			headers["sent-at"] = json.RawMessage(time.UnixMicro(int64(row.Time * 1e6)).UTC().Format(`"2006-01-02T15:04:05.999999+00:00"`))
			text, err := json.Marshal(map[string]any{"body": m["msg"], "headers": headers, "id": m["msg_id"], "topic": m["topic"], "priority": 0, "queue": nil})
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, string(text))
		default:
			var values []string
			for _, v := range columnsOf(t, row) {
				switch {
				case v == nil && form == "csv":
					values = append(values, "")
				case v == nil:
					values = append(values, `\N`)
				case form == "csv":
					values = append(values, `"`+strings.ReplaceAll(*v, `"`, `""`)+`"`)
				default:
					values = append(values, strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\t", `\t`, "\r", `\r`).Replace(*v))
				}
			}
			out = append(out, strings.Join(values, map[string]string{"csv": ",", "copy": "\t"}[form]))
		}
	}
	switch form {
	case "page":
		return fmt.Sprintf(`{"arguments":{},"count":%d,"pages":1,"raw_messages":[%s],"total":%d}`, len(rows), strings.Join(out, ","), len(rows))
	case "dump":
		return "[" + strings.Join(out, ",") + "]"
	case "csv":
		return strings.Join(file.Columns, ",") + "\n" + strings.Join(out, "\n") + "\n"
	}
	return strings.Join(out, "\n") + "\n"
}

// TestImport_WhatPeopleHave: one history in pieces, each in another form, some compressed, one by way of stdin, read side
// by side beside a daemon; then all of it again in one form without one.
func TestImport_WhatPeopleHave(t *testing.T) {
	t.Parallel()
	g := multiplied(t, goldens(t)[0], 5)
	rows := g.archived(t)
	s := newSite(t, nil)
	d := s.start()
	dir := t.TempDir()
	args := []string{"import"}
	forms := []string{"lines", "page", "dump", "csv", "copy"}
	for i, form := range forms {
		part := rows[i*len(rows)/len(forms) : (i+1)*len(rows)/len(forms)]
		text := inForm(t, form, part)
		if form == "copy" {
			text += "only\ttwo\n"
		}
		path := filepath.Join(dir, form)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	r := s.run(args...)
	if r.code != 1 || !strings.Contains(r.stdout, fmt.Sprintf("%d new events", g.events)) || !strings.Contains(r.stdout, "1 rejected") ||
		!strings.Contains(r.stderr, fmt.Sprintf("copy:%d: refused (envelope): 2 columns instead of 12", (len(rows)+len(forms)-1)/len(forms)+1)) {
		t.Errorf("exit status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	g.check(t, d, 1_000_000)
	d.stop()
	for _, form := range forms[1:] {
		path := filepath.Join(dir, "all."+form)
		if err := os.WriteFile(path, []byte(inForm(t, form, rows)), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := s.mustRun("import", path); !strings.Contains(r.stdout, fmt.Sprintf("0 new events, %d duplicates, 0 rejected", g.events)) {
			t.Errorf("%s again: %s", form, r.stdout)
		}
	}
	path := filepath.Join(dir, "archive.dump")
	if err := os.WriteFile(path, []byte("PGDMP\x01\x0e"), 0o600); err != nil {
		t.Fatal(err)
	}
	oneSentence(t, s.run("import", path), 1, "pg_restore")
	s.verifyClean()
}
