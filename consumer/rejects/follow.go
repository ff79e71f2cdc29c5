package rejects

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Follow calls f for what is refused from now on, until ctx ends (nil) or f fails. It looks at the files every period.
func Follow(ctx context.Context, dir string, period time.Duration, f func(Entry) error) error {
	var all []*tailed
	for _, name := range []string{keptFile, lastFile} {
		t := &tailed{path: filepath.Join(dir, name)}
		defer t.close()
		if err := t.open(io.SeekEnd); err != nil {
			return err
		}
		all = append(all, t)
	}
	return follow(ctx, all, period, f)
}

func follow(ctx context.Context, all []*tailed, period time.Duration, f func(Entry) error) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		for _, t := range all {
			if err := t.poll(f); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// tailed is a file that grows and may be replaced.
type tailed struct {
	path string
	file *os.File
	in   *bufio.Reader
	part []byte    // of a line that is not complete yet
	last time.Time // of what was told of this file
}

func (t *tailed) open(whence int) error {
	file, err := os.Open(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("follow rejects: %w", err)
	}
	if _, err := file.Seek(0, whence); err != nil {
		_ = file.Close() // only read from
		return fmt.Errorf("follow rejects: %w", err)
	}
	t.file, t.in, t.part = file, bufio.NewReader(file), nil
	return nil
}

func (t *tailed) close() {
	if t.file != nil {
		_ = t.file.Close() // only read from
		t.file = nil
	}
}

// poll tells what is new. A file that was replaced is read to its end first.
func (t *tailed) poll(f func(Entry) error) error {
	if t.file == nil {
		if err := t.open(io.SeekStart); err != nil || t.file == nil {
			return err
		}
	}
	replaced, err := t.replaced() // asked before the reading: what comes after it is in the new file
	if err != nil {
		return err
	}
	if err := t.read(f, time.Time{}); err != nil || !replaced {
		return err
	}
	t.close()
	if err := t.open(io.SeekStart); err != nil || t.file == nil {
		return err
	}
	since := time.Time{}
	if filepath.Base(t.path) == keptFile { // a replay leaves in the new one what was told already
		since = t.last
	}
	return t.read(f, since)
}

func (t *tailed) replaced() (bool, error) {
	mine, err := t.file.Stat()
	if err != nil {
		return false, fmt.Errorf("follow rejects: %w", err)
	}
	now, err := os.Stat(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // between two steps of a rotation
	}
	if err != nil {
		return false, fmt.Errorf("follow rejects: %w", err)
	}
	return !os.SameFile(mine, now), nil
}

// read tells the complete lines that are newer than a time.
func (t *tailed) read(f func(Entry) error, since time.Time) error {
	for {
		line, err := readLine(t.in)
		if t.part = append(t.part, line...); len(t.part) > maxLine {
			return fmt.Errorf("follow %s: a line is longer than %d bytes", t.path, maxLine)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("follow %s: %w", t.path, err)
		}
		e := Entry{Raw: t.part}
		t.part = nil
		if json.Unmarshal(e.Raw, &e.Reject) != nil || !since.IsZero() && !e.At.After(since) {
			continue
		}
		t.last = e.At
		if err := f(e); err != nil {
			return err
		}
	}
}
