package consumer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/statscache/statscache/internal/durable"
	"github.com/statscache/statscache/plugins/host"
	"github.com/statscache/statscache/store"
)

const (
	// programsFile in the data dir holds which programs made the numbers.
	programsFile = "programs.json"
	// checkTimeout bounds the check of one changed program.
	checkTimeout = 2 * time.Minute
	// maxProgramBytes bounds what of a program is read to tell it from another one.
	maxProgramBytes = 1 << 30
	// maxStarted is how many starts of plugins may wait to be looked at.
	maxStarted = 256
)

// program is what is remembered of the program that makes a plugin's numbers.
type program struct {
	Fingerprint string `json:"fingerprint"` // what the plugin says of itself
	Generation  uint32 `json:"generation"`
	SHA256      string `json:"sha256"`          // of the file
	Doubt       string `json:"doubt,omitempty"` // what a check of it found wrong: it counts otherwise than the one before
}

// readPrograms reads what is remembered, by plugin id. A damaged file is as good as none: it is a memory, no more.
func readPrograms(dataDir string) (map[string]program, error) {
	out := map[string]program{}
	path := filepath.Join(dataDir, programsFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err == nil {
		err = json.NewDecoder(bytes.NewReader(text)).Decode(&out)
	}
	if err != nil {
		return map[string]program{}, fmt.Errorf("read %s: %w", path, unwrapPath(err))
	}
	return out, nil
}

// started is a plugin whose process has begun to count.
type started struct {
	program    host.Program
	plugin     store.Plugin
	generation uint32
}

// changes checks programs that have taken the place of others which counted the same things under the same data_version:
// nothing but a comparison of numbers can tell whether they count the same way.
type changes struct {
	dataDir string
	log     *slog.Logger
	check   func(context.Context, started) (VerifyReport, error)
	starts  chan started
	sums    map[string]fileSum // by path, for run

	mu    sync.Mutex
	known map[string]program
	seen  os.FileInfo // of the file that known was read from or written to; nil where there was none
}

// fileSum saves reading a large file again: the bundled plugins are all one program.
type fileSum struct {
	size    int64
	changed time.Time
	sum     string
}

func newChanges(dataDir string, log *slog.Logger, check func(context.Context, started) (VerifyReport, error)) *changes {
	c := &changes{dataDir: dataDir, log: log, check: check, starts: make(chan started, maxStarted), sums: map[string]fileSum{}}
	var err error
	c.seen, _ = os.Stat(filepath.Join(dataDir, programsFile)) // before it is read: what changes meanwhile is read again
	if c.known, err = readPrograms(dataDir); err != nil {
		log.Warn("nothing is known of the programs that counted so far: changed ones will not be noticed this time", "error", err)
	}
	return c
}

// saw takes note of a plugin that starts. It never waits.
func (c *changes) saw(p host.Program, plugin store.Plugin, generation uint32) {
	select {
	case c.starts <- started{p, plugin, generation}:
	default: // the next start of it is looked at
	}
}

// doubt says what is wrong with the program of a plugin, "" where nothing is known to be.
func (c *changes) doubt(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refresh()
	return c.known[id].Doubt
}

// run looks at the plugins that start, one after the other.
func (c *changes) run(ctx context.Context) error {
	for {
		select {
		case s := <-c.starts:
			if err := c.look(ctx, s); err != nil && ctx.Err() == nil {
				c.log.Warn("the program of a plugin could not be checked; that is tried again when it starts the next time", "plugin", s.plugin.ID, "error", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// look compares a plugin's program with the one that is remembered.
func (c *changes) look(ctx context.Context, s started) error {
	sum, err := sumOf(s.program, c.sums)
	if err != nil {
		return err
	}
	now := program{Fingerprint: s.plugin.Fingerprint, Generation: s.generation, SHA256: sum}
	c.mu.Lock()
	was, ok := c.known[s.plugin.ID]
	c.mu.Unlock()
	switch {
	case !ok || was.Fingerprint != now.Fingerprint || was.Generation != now.Generation: // its numbers begin with it
	case was.SHA256 == now.SHA256:
		return nil
	default:
		if now.Doubt, err = c.compare(ctx, s); err != nil {
			return err
		}
	}
	return c.remember(s.plugin.ID, now)
}

// compare shouts where the sample differs.
func (c *changes) compare(ctx context.Context, s started) (doubt string, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	r, err := c.check(ctx, s)
	if err != nil {
		return "", err
	}
	if r.Differences == 0 {
		c.log.Info("plugin's program has changed and counts a sample of the archive as before", "plugin", s.plugin.ID, "rows", r.Rows)
		return "", nil
	}
	c.log.Error("plugin's program has changed and counts otherwise than before, under the same data_version: old and new numbers don't fit together. "+
		"`statscache recount` counts all of them anew; a new data_version does so too", "plugin", s.plugin.ID, "sampled", r.Rows, "differences", r.Differences, "first", r.Found[0])
	return fmt.Sprintf("its program has changed and counts otherwise than before under the same data_version (%d of %d sampled numbers differ: %s): `statscache recount` or a new data_version counts all of them anew",
		r.Differences, r.Rows, r.Found[0]), nil
}

func (c *changes) remember(id string, p program) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refresh()
	return c.write(id, p)
}

// write remembers a program. The caller holds mu.
func (c *changes) write(id string, p program) error {
	c.known[id] = p
	text, err := json.MarshalIndent(c.known, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(c.dataDir, programsFile)
	if err := durable.ReplaceFile(path, append(text, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", path, unwrapPath(err))
	}
	c.seen, err = os.Stat(path)
	return err
}

// sumOf gives what tells a program's file from others; known saves reading one again.
func sumOf(p host.Program, known map[string]fileSum) (string, error) {
	if len(p.Argv) == 0 {
		return "", errors.New("it has no program")
	}
	path, err := exec.LookPath(p.Argv[0])
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read from
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if s, ok := known[path]; ok && s.size == info.Size() && s.changed.Equal(info.ModTime()) {
		return s.sum, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, maxProgramBytes)); err != nil {
		return "", err
	}
	s := fileSum{info.Size(), info.ModTime(), hex.EncodeToString(h.Sum(nil))}
	known[path] = s
	return s.sum, nil
}
