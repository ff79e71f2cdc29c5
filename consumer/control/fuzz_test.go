package control

import (
	"errors"
	"io"
	"mime/multipart"
	"strings"
	"testing"
)

// FuzzReadEvents: whatever a daemon answers, the client ends, with an end that the daemon gave or an error.
func FuzzReadEvents(f *testing.F) {
	f.Add(`{"lines":5}` + "\n" + `{"bad":{"file":"a","line":1,"reason":"json","detail":"x"}}` + "\n" + `{"summary":{"lines":5}}`)
	f.Add(`{"error":"the daemon is stopping"}`)
	f.Add("null\n[]\n{")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		end, err := readEvents(strings.NewReader(text), func(Event) {})
		if err == nil && end.Summary == nil && end.Error == "" {
			t.Fatal("an end that is none")
		}
	})
}

// FuzzNextPart: whatever a client sends, the server reads files to an end, which is io.EOF only after a whole body.
func FuzzNextPart(f *testing.F) {
	f.Add("--x\r\nStatscache-File: a%20b\r\n\r\n{}\n\r\n--x\r\nStatscache-End: 1\r\n\r\n\r\n--x--\r\n")
	f.Add("--x\r\nStatscache-Abort: 1\r\n\r\n\r\n--x--\r\n")
	f.Add("--x\r\nStatscache-File: %zz\r\n\r\n")
	f.Add("none")
	f.Fuzz(func(t *testing.T, body string) {
		next := nextPart(multipart.NewReader(strings.NewReader(body), "x"))
		for {
			_, r, err := next()
			if err == io.EOF {
				if !strings.Contains(strings.ToLower(body), "statscache-end") {
					t.Fatal("a body that was cut short was taken for a whole one")
				}
				return
			}
			if err != nil {
				if errors.Is(err, io.EOF) {
					t.Fatalf("%v could be taken for the end", err)
				}
				return
			}
			if _, err := io.Copy(io.Discard, r); err != nil && err != io.ErrUnexpectedEOF {
				return
			}
		}
	})
}
