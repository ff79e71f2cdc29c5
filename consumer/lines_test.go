package consumer

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func readAll(t *testing.T, r *lineReader) (lines []string, numbers []int) {
	t.Helper()
	for {
		b, err := r.next(context.Background())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range b.messages {
			if len(m[0]) > 0 {
				lines, numbers = append(lines, string(m[0])), append(numbers, b.lineOf(i))
			}
		}
	}
	return lines, numbers
}

func TestLines_NumbersSurviveEmptyLinesAndLastLineNeedsNoEnd(t *testing.T) {
	r := newLineReader("stdin", strings.NewReader("one\r\n\n  \ntwo\nthree"), 100)
	lines, numbers := readAll(t, r)
	if !slices.Equal(lines, []string{"one", "two", "three"}) || !slices.Equal(numbers, []int{1, 4, 5}) {
		t.Fatalf("%q at %v", lines, numbers)
	}
}

func TestLines_TooLongOnesAreTold(t *testing.T) {
	long := strings.Repeat("x", 3<<20)
	r := newLineReader("stdin", strings.NewReader("a\n"+long+"\nb\n"+long), 1000)
	var told []string
	r.tooLong = func(line, size int) { told = append(told, fmt.Sprint(line, " ", size)) }
	lines, numbers := readAll(t, r)
	if !slices.Equal(lines, []string{"a", "b"}) || !slices.Equal(numbers, []int{1, 3}) {
		t.Fatalf("%q at %v", lines, numbers)
	}
	if want := []string{fmt.Sprint(2, " ", len(long)+1), fmt.Sprint(4, " ", len(long))}; !slices.Equal(told, want) {
		t.Fatalf("told %v, want %v", told, want)
	}
}

func TestLines_CompressedFiles(t *testing.T) {
	var want []string
	for i := range 1000 {
		want = append(want, fmt.Sprintf(`{"n":%d}`, i))
	}
	text := []byte(strings.Join(want, "\n") + "\n")
	dir := t.TempDir()
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"a.jsonl": text, "a.jsonl.gz": gz.Bytes(), "a.jsonl.zst": z.EncodeAll(text, nil),
		"packed.jsonl": gz.Bytes(), "packed.txt": z.EncodeAll(text, nil), "plain.gz": text} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := openFile(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if lines, _ := readAll(t, newLineReader(f.name, f, 100)); !slices.Equal(lines, want) {
			t.Fatalf("%s: %d lines differ", name, len(lines))
		}
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := openFile(filepath.Join(dir, "none"), nil); err == nil || !strings.Contains(err.Error(), "none") {
		t.Fatalf("a file that isn't there: %v", err)
	}
}

func TestLines_CutFilesGiveTheirWholeLinesFirst(t *testing.T) {
	var text strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&text, "{\"n\":%d,\"x\":\"%x\"}\n", i, i*7919)
	}
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	if _, err := w.Write([]byte(text.String())); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cut.jsonl.gz")
	if err := os.WriteFile(path, gz.Bytes()[:gz.Len()*2/3], 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openFile(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.close() }()
	r := newLineReader(f.name, f, 100)
	defer r.stop()
	n := 0
	for {
		b, err := r.next(context.Background())
		if err != nil {
			if want := fmt.Sprintf("after line %d: unexpected EOF", n); !strings.Contains(err.Error(), want) {
				t.Fatalf("%v, want %q", err, want)
			}
			break
		}
		if b.first != n+1 {
			t.Fatalf("batch begins at line %d, want %d", b.first, n+1)
		}
		for _, m := range b.messages {
			if !strings.HasPrefix(string(m[0]), fmt.Sprintf(`{"n":%d,`, n)) || m[0][len(m[0])-1] != '}' {
				t.Fatalf("line %d is %q", n+1, m[0])
			}
			n++
		}
	}
	if n < 1000 {
		t.Fatalf("only %d lines of two thirds of the file", n)
	}
}

func TestLines_SilentPipeDoesNotHoldWhoGoes(t *testing.T) {
	in, out := io.Pipe()
	defer func() { _ = out.Close() }()
	r := newLineReader("pipe", in, 100)
	defer r.stop()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
}
