package rejects

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxLine bounds a line of the files: the largest message, in base64, with what goes along with it.
const maxLine = 128 << 20

// The files, in the order in which List reads them.
const (
	keptFile = "kept.jsonl" // whole messages, for replay
	olderOne = "last.1.jsonl"
	lastFile = "last.jsonl"
)

// Entry is a line of the files.
type Entry struct {
	Reject
	Raw []byte // the line itself, without its end
}

// List calls f for all that is kept in a folder, file by file, each in the order of time, until f fails. It works beside
// the process that writes. damaged is the number of lines that are none of ours: a crash may have cut one.
func List(dir string, f func(Entry) error) (damaged int, err error) {
	for _, name := range []string{keptFile, olderOne, lastFile} {
		n, err := readFile(filepath.Join(dir, name), f)
		if damaged += n; err != nil {
			return damaged, err
		}
	}
	return damaged, nil
}

func readFile(path string, f func(Entry) error) (damaged int, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read rejects: %w", err)
	}
	defer func() { _ = file.Close() }() // only read from
	in := bufio.NewReader(file)
	for {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) {
			if len(line) > 0 {
				damaged++ // being written, or cut by a crash
			}
			return damaged, nil
		}
		if err != nil {
			return damaged, fmt.Errorf("read %s: %w", path, err)
		}
		e := Entry{Raw: line}
		if json.Unmarshal(line, &e.Reject) != nil {
			damaged++
			continue
		}
		if err := f(e); err != nil {
			return damaged, err
		}
	}
}

// readLine gives a line of its own memory, without its end. With io.EOF comes what stands behind the last line's end.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		piece, err := in.ReadSlice('\n')
		if len(line)+len(piece) > maxLine {
			return nil, fmt.Errorf("a line is longer than %d bytes", maxLine)
		}
		line = append(line, piece...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		return bytes.TrimSuffix(line, []byte{'\n'}), err
	}
}

// Whole calls f for the messages kept whole, in order, numbered from 0.
func (k *Keeper) Whole(f func(i int, r Reject) error) error {
	i := 0
	_, err := readFile(k.path(keptFile), func(e Entry) error {
		err := f(i, e.Reject)
		i++
		return err
	})
	return err
}

// Drop removes messages kept whole, by their numbers in Whole. The file is replaced at once: after a crash it is the old
// one or the new one.
func (k *Keeper) Drop(gone func(i int) bool) (err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	fresh := k.path(keptFile + ".new")
	out, err := os.OpenFile(fresh, os.O_CREATE|os.O_TRUNC|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("rewrite rejects: %w", err)
	}
	size, err := k.copyKept(out, gone)
	if err == nil {
		err = out.Sync()
	}
	if err == nil {
		err = os.Rename(fresh, k.path(keptFile))
	}
	if err != nil {
		_ = out.Close() // the old file goes on
		return errors.Join(fmt.Errorf("rewrite rejects: %w", err), os.Remove(fresh))
	}
	_ = k.kept.Close() // nothing is buffered
	k.kept, k.keptN, k.full = out, size, false
	return syncDir(k.o.Dir)
}

// copyKept copies what stays; lines that can't be read stay as they are.
func (k *Keeper) copyKept(to io.Writer, gone func(i int) bool) (size int64, err error) {
	from, err := os.Open(k.path(keptFile))
	if err != nil {
		return 0, err
	}
	defer func() { _ = from.Close() }() // only read from
	in, out := bufio.NewReader(from), bufio.NewWriter(to)
	for i := 0; ; {
		line, err := readLine(in)
		if err != nil && !errors.Is(err, io.EOF) {
			return size, err
		}
		ended := err != nil
		var r Reject
		stays := len(line) > 0
		if !ended && json.Unmarshal(line, &r) == nil {
			stays = !gone(i)
			i++
		}
		if stays {
			n, err := out.Write(append(line, '\n'))
			if size += int64(n); err != nil {
				return size, err
			}
		}
		if ended {
			return size, out.Flush()
		}
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync the rejects folder: %w", err)
	}
	defer func() { _ = d.Close() }() // only synced
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync the rejects folder: %w", err)
	}
	return nil
}
