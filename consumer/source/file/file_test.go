package file

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
)

// bodies are hard ones: what separates rows, quotes and brackets in strings, NUL, text in several scripts.
var bodies = []string{ // immutable
	`{"a":1}`,
	`{"text":"tab\tnewline\n\"quote\" back\\slash \u0000 {[}] , é 日本"}`,
	`{"raw_messages":[{"topic":"inner"}],"deep":{"raw_messages":["["]}}`,
	`{}`,
}

type event struct {
	MsgID     string          `json:"msg_id"`
	Topic     string          `json:"topic"`
	Timestamp float64         `json:"timestamp"`
	Username  string          `json:"username"`
	Signature string          `json:"signature"`
	Msg       json.RawMessage `json:"msg"`
}

func want() (out []event) {
	for i, b := range bodies {
		out = append(out, event{fmt.Sprintf("id-%d", i), "org.x.t", 1524744000.25 + float64(i), "", "", json.RawMessage(b)})
	}
	return out
}

func messages(form func(i int, body string) string) []string {
	var out []string
	for i, b := range bodies {
		out = append(out, form(i, b))
	}
	return out
}

func envelopeText(i int, body string) string {
	return fmt.Sprintf(`{"i":1,"msg_id":"id-%d","topic":"org.x.t","timestamp":%.2f,"msg":%s}`, i, 1524744000.25+float64(i), body)
}

func fedoraText(i int, body string) string {
	return fmt.Sprintf(`{"body":%s,"headers":{"sent-at":"2018-04-26T12:00:0%d.250000+00:00"},"id":"id-%d","priority":0,"queue":null,"topic":"org.x.t"}`, body, i, i)
}

func csvText(i int, body string) string {
	return fmt.Sprintf(`id-%d,org.x.t,2018-04-26 12:00:0%d.25,1,"%s",,,,,,,`, i, i, strings.ReplaceAll(body, `"`, `""`))
}

func copyText(i int, body string) string {
	return fmt.Sprintf("id-%d\torg.x.t\t2018-04-26 12:00:0%d.25\t1\t%s\t%s", i, i, strings.ReplaceAll(body, `\`, `\\`), strings.Repeat("\t\\N", 7)[1:])
}

func page(list []string, first bool) string {
	if first {
		return `{"raw_messages":[` + strings.Join(list, ",") + `],"count":4,"total":4,"pages":1,"arguments":{"start":0,"x":"]}"}}`
	}
	return `{"arguments":{"start":0,"x":["]}"]},"count":4,"pages":1,"raw_messages": [` + strings.Join(list, ", \n") + "], \"total\":4}"
}

func pretty(text string) string {
	var b bytes.Buffer
	_ = json.Indent(&b, []byte(text), "", "  ")
	return b.String()
}

func TestForms_AllGiveTheSameMessages(t *testing.T) {
	header := strings.Join(Columns, ",")
	dump := "--\n-- PostgreSQL database dump\n--\n\nSET statement_timeout = 0;\n\nCOPY public.users (id, name) FROM stdin;\n1\tralph\n\\.\n\nCOPY public.messages (" +
		strings.Join(Columns, ", ") + ") FROM stdin;\n" + strings.Join(messages(copyText), "\n") + "\n\\.\n\nCREATE INDEX x;\n"
	for _, c := range []struct {
		name string
		form Form
		text string
	}{
		{"fedora-messaging's lines", Messages, strings.Join(messages(fedoraText), "\n")},
		{"datanommer-dump", Values, "[" + strings.Join(messages(fedoraText), ",") + "]\n"},
		{"an array of envelopes, printed", Values, pretty("[" + strings.Join(messages(envelopeText), ",") + "]")},
		{"a page of datagrepper's", Values, page(messages(envelopeText), true)},
		{"a page of its v2, printed", Values, pretty(page(messages(fedoraText), false))},
		{"pages, a line each", Values, page(messages(envelopeText)[:2], true) + "\n" + page(nil, true) + "\n" + page(messages(fedoraText)[2:], false)},
		{"an envelope, printed, and more", Values, pretty(envelopeText(0, bodies[0])) + "\n" + strings.Join(messages(envelopeText)[1:], "\n")},
		{"CSV", CSV, header + "\n" + strings.Join(messages(csvText), "\r\n") + "\n"},
		{"COPY", Copy, strings.Join(messages(copyText), "\n") + "\n\\.\n"},
		{"COPY with a header", Copy, strings.Join(Columns, "\t") + "\n" + strings.Join(messages(copyText), "\n") + "\n"},
		{"pg_dump", SQL, dump},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := bufio.NewReaderSize(strings.NewReader(c.text), 4<<20)
			form, err := Sniff(in)
			if err != nil || form != c.form {
				t.Fatalf("taken for %v (%v), want %v", form, err, c.form)
			}
			r := New(form, in, 1<<20)
			var got []event
			for {
				rec, err := r.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil || rec.Reason != "" {
					t.Fatalf("%+v, %v", rec, err)
				}
				var e event
				if err := json.Unmarshal(rec.Envelope, &e); err != nil {
					t.Fatalf("%s: %v", rec.Envelope, err)
				}
				var tight bytes.Buffer
				_ = json.Compact(&tight, e.Msg)
				e.Msg = tight.Bytes()
				got = append(got, e)
			}
			if !reflect.DeepEqual(got, want()) {
				t.Errorf("got  %s\nwant %s", show(got), show(want()))
			}
		})
	}
}

func show(list []event) string {
	text, _ := json.Marshal(list)
	return string(text)
}

func TestSniff_WhatIsNoneOfThem(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"pg_dump's custom format", "PGDMP\x01\x0e", "pg_restore"},
		{"SQLite", "SQLite format 3\x00", "SQLite"},
		{"zip", "PK\x03\x04", "zip"},
		{"xz", "\xfd7zXZ\x00", "xz"},
		{"envelopes", envelopeText(0, "{}") + "\n", ""},
		{"a torn line first", envelopeText(0, "{}")[5:] + "\n" + envelopeText(0, "{}"), ""},
		{"nothing", "", ""},
		{"empty lines", "\n\n \n", ""},
		{"one long line", `{"topic":"` + strings.Repeat("x", 100_000), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			form, err := Sniff(bufio.NewReaderSize(strings.NewReader(c.text), 1<<20))
			if form != Lines || (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, %v; want %q", form, err, c.want)
			}
		})
	}
}

// TestSniff_WaitsForOneLineOnly: a pipe may be slow.
func TestSniff_WaitsForOneLineOnly(t *testing.T) {
	read, write := io.Pipe()
	go func() { _, _ = io.WriteString(write, fedoraText(0, "{}")+"\n") }() // and nothing more
	if form, err := Sniff(bufio.NewReaderSize(read, 1<<20)); form != Messages || err != nil {
		t.Errorf("%v, %v", form, err)
	}
	_ = write.Close()
}

func TestForms_ABadPieceIsNamedAndTheRestGoesOn(t *testing.T) {
	good := copyText(0, "{}")
	for _, c := range []struct {
		name, text string
		form       Form
		want       string // line:reason of each record
	}{
		{"COPY", good + "\nonly\ttwo\n" + strings.Replace(good, "{}", "{", 1) + "\n" + strings.Replace(good, "2018-04-26", "yesterday", 1) + "\n" + strings.Replace(good, "{}", `"`+strings.Repeat("x", 5000)+`"`, 1) + "\n" + good, Copy,
			"1: 2:envelope 3:envelope 4:envelope 5:size 6:"},
		{"CSV", strings.Join(Columns, ",") + "\n" + csvText(0, "{}") + "\na,b\n\"a\"b,c\n" + csvText(0, `{"a":"`+"\n"+`"}`) + "\n" + csvText(1, "{}"), CSV, "2: 3:envelope 4:envelope 5:envelope 7:"},
		{"array", "[" + envelopeText(0, "{}") + ",\n nonsense,\n" + envelopeText(1, `{"a":}`) + ",\n" + envelopeText(2, `{"a":"`+strings.Repeat("x", 3000)+`"}`) + "\n" + envelopeText(3, "{}") + "]", Values, "1: 2:json 3:json 4:size 5:"},
		{"lines", fedoraText(0, "{}") + "\n{\n\n" + fedoraText(1, "{}"), Messages, "1: 2:json 4:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := bufio.NewReaderSize(strings.NewReader(c.text), 1<<20)
			if form, err := Sniff(in); form != c.form || err != nil {
				t.Fatalf("taken for %v (%v)", form, err)
			}
			var got []string
			for r := New(c.form, in, 2000); ; {
				rec, err := r.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, fmt.Sprintf("%d:%s", rec.Line, rec.Reason))
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %q, want %q", strings.Join(got, " "), c.want)
			}
		})
	}
}

func TestForms_AFileThatEndsTooEarlyIsAnError(t *testing.T) {
	for _, text := range []string{page(messages(envelopeText), true)[:150], "[" + envelopeText(0, "{}")[:30], strings.Join(Columns, ",") + "\n" + strings.SplitAfter(csvText(0, "{\n"), "{\n")[0]} {
		in := bufio.NewReaderSize(strings.NewReader(text), 1<<20)
		form, err := Sniff(in)
		if err != nil {
			t.Fatal(err)
		}
		for r := New(form, in, 2000); ; {
			if _, err = r.Next(); err != nil {
				break
			}
		}
		if errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "it ends inside") {
			t.Errorf("%v of %q: %v", form, text, err)
		}
	}
}

// FuzzReader reads anything in every form: it ends, without a panic, and what it gives is JSON as far as it says so.
func FuzzReader(f *testing.F) {
	for _, text := range []string{page(messages(envelopeText), true), strings.Join(messages(copyText), "\n"), strings.Join(Columns, ",") + "\n" + strings.Join(messages(csvText), "\n"),
		"[" + strings.Join(messages(fedoraText), ",") + "]", "COPY messages (topic, timestamp, msg) FROM stdin;\nx\t1\t{}\n\\.\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for form := Messages; form <= SQL; form++ {
			r := New(form, bufio.NewReaderSize(bytes.NewReader(text), 16<<10), 1000)
			for n := 0; ; n++ {
				rec, err := r.Next()
				if err != nil {
					break
				}
				if n > len(text)+1 {
					t.Fatalf("%v: more records than bytes", form)
				}
				if (rec.Envelope == nil) == (rec.Reason == "") || rec.Line < 1 {
					t.Fatalf("%v: %+v", form, rec)
				}
				if rec.Envelope != nil && !json.Valid(rec.Envelope) {
					t.Fatalf("%v gives %q, which is no JSON", form, rec.Envelope)
				}
			}
		}
		_, _ = Sniff(bufio.NewReaderSize(bytes.NewReader(text), 1<<20))
	})
}
