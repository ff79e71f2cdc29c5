package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// multiplied makes a longer stream of a golden one: every event n times with ids of their own, so that every number of
// the oracle's is n times as large.
func multiplied(t testing.TB, g golden, n int64) golden {
	t.Helper()
	in, err := os.Open(g.file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }() // only read
	unzipped, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	larger := golden{name: fmt.Sprintf("%s x %d", g.name, n), file: filepath.Join(t.TempDir(), "events.jsonl"), expected: map[string]string{}, events: g.events * n}
	out, err := os.Create(larger.file)
	if err != nil {
		t.Fatal(err)
	}
	buffered := bufio.NewWriter(out)
	lines := bufio.NewScanner(unzipped)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		before, after, ok := bytes.Cut(lines.Bytes(), []byte(`"msg_id":"`))
		if !ok {
			t.Fatalf("no msg_id in %q", lines.Text())
		}
		for i := range n {
			// A failed write stays with the writer and comes up in Flush.
			_, _ = fmt.Fprintf(buffered, "%s\"msg_id\":\"%d-%s\n", before, i, after)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if err := buffered.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	for ident, rows := range g.expected {
		larger.expected[ident] = multiplyRows(t, rows, n)
	}
	return larger
}

// multiplyRows multiplies the column "volume". No value of the goldens holds a comma or a quote.
func multiplyRows(t testing.TB, rows string, n int64) string {
	t.Helper()
	if strings.Contains(rows, `"`) {
		t.Fatal("a golden row is quoted")
	}
	var b strings.Builder
	column := -1
	for line := range strings.Lines(rows) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ",")
		if column < 0 {
			for i, name := range fields {
				if name == "volume" {
					column = i
				}
			}
			b.WriteString(line)
			continue
		}
		volume, err := strconv.ParseInt(fields[column], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		fields[column] = strconv.FormatInt(volume*n, 10)
		b.WriteString(strings.Join(fields, ",") + "\n")
	}
	return b.String()
}
