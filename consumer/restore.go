package consumer

import (
	"archive/tar"
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
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/consumer/journal"
	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store/sqlite"
)

const (
	// restoringFolder is where a backup is unpacked, in the data dir. While it is there the data dir is not whole.
	restoringFolder = ".restoring"
	// maxManifest bounds the manifest, in bytes, maxEntries the entries of a backup.
	maxManifest = 16 << 20
	maxEntries  = 100_000
)

// errHalfRestored is why a data dir is not opened in which a restore was broken off.
var errHalfRestored = errors.New("a restore was broken off here")

// Restore brings a backup back into an empty data dir. Everything is unpacked and verified before anything gets its
// name.
//
// What the inbox held becomes an inbox of its own, with a stream of its own: the positions of the old stream stay those
// of the installation that the backup was made of, which may run on, and both may even share a database.
func Restore(ctx context.Context, c *config.Config, path string, log *slog.Logger, progress func(done, total int)) (sum BackupSummary, err error) {
	in, err := os.Open(path)
	if err != nil {
		return sum, fmt.Errorf("backup %s: %w", path, unwrapPath(err))
	}
	defer func() { _ = in.Close() }() // only read
	if err := emptyForRestore(c); err != nil {
		return sum, err
	}
	lock, err := lockDir(c.DataDir)
	if err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	if err := emptyForRestore(c); err != nil { // whoever held the lock before may have put something there
		return sum, err
	}
	r := &restore{ctx: ctx, config: c, log: log, progress: progress, dir: filepath.Join(c.DataDir, restoringFolder), got: map[string]manifestEntryOf{}}
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		return sum, fmt.Errorf("restore: %w", err)
	}
	if err := r.unpack(in); err == nil {
		err = r.check()
		if err == nil {
			err = r.makeInbox()
		}
		if err != nil {
			return sum, errors.Join(fmt.Errorf("backup %s: %w", path, err), os.RemoveAll(r.dir))
		}
	} else {
		return sum, errors.Join(fmt.Errorf("backup %s: %w", path, err), os.RemoveAll(r.dir))
	}
	if err := r.install(); err != nil {
		return sum, fmt.Errorf("restore to %s: %w; remove it and restore again", c.DataDir, err)
	}
	m := r.manifest
	return BackupSummary{Path: path, Created: m.Created, Version: m.Version, Store: m.Store, Files: len(m.Files), Bytes: r.done, Packed: r.packed, Inbox: m.Inbox, Stream: m.Stream, New: r.stream}, nil
}

// emptyForRestore refuses a data dir that holds something, or whose store does.
func emptyForRestore(c *config.Config) error {
	entries, err := os.ReadDir(c.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("data dir %s: %w", c.DataDir, unwrapPath(err))
	}
	running, err := Running(c.DataDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case "lock":
			continue
		case restoringFolder:
			return fmt.Errorf("data dir %s: %w; remove the data dir and restore again", c.DataDir, errHalfRestored)
		}
		if running {
			return fmt.Errorf("%w: a statscache works in %s; a backup is restored into an empty data dir", ErrLocked, c.DataDir)
		}
		return fmt.Errorf("data dir %s is not empty: it holds %s; a backup is restored into an empty data dir", c.DataDir, e.Name())
	}
	if c.Store.Kind == "sqlite" {
		if _, err := os.Lstat(c.Store.Path); err == nil {
			return fmt.Errorf("%s exists already; a backup is restored where there is no store", c.Store.Path)
		}
	}
	return nil
}

// whole refuses a data dir in which a restore was broken off.
func whole(dataDir string) error {
	if _, err := os.Lstat(filepath.Join(dataDir, restoringFolder)); err == nil {
		return fmt.Errorf("data dir %s: %w; remove the data dir and restore again", dataDir, errHalfRestored)
	}
	return nil
}

// restore is a restore under way.
type restore struct {
	ctx      context.Context
	config   *config.Config
	log      *slog.Logger
	progress func(done, total int)
	dir      string
	got      map[string]manifestEntryOf // unpacked, by name
	manifest manifest
	stream   string
	done     int64
	packed   int64
}

// unpack writes the entries into the folder and takes their sums.
func (r *restore) unpack(in *os.File) error {
	if info, err := in.Stat(); err == nil {
		r.packed = info.Size()
	}
	z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
	if err != nil {
		return err
	}
	defer z.Close()
	for files := tar.NewReader(z); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("not a backup, or a damaged one: %w", err)
		}
		if len(r.got) > maxEntries {
			return fmt.Errorf("more than %d entries", maxEntries)
		}
		if r.manifest.Format != 0 {
			return fmt.Errorf("entry %q behind the manifest", h.Name)
		}
		if h.Name == manifestEntry {
			if err := r.readManifest(files); err != nil {
				return err
			}
			continue
		}
		if err := r.entry(h, files); err != nil {
			return fmt.Errorf("entry %q: %w", h.Name, err)
		}
	}
	if r.manifest.Format == 0 {
		return errors.New("it ends before its manifest: it is not whole")
	}
	return nil
}

func (r *restore) readManifest(in io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(in, maxManifest))
	if err == nil {
		err = json.Unmarshal(text, &r.manifest)
	}
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	if r.manifest.Format != backupFormat {
		return fmt.Errorf("its format is %d, this statscache knows %d; a newer one may know it", r.manifest.Format, backupFormat)
	}
	return nil
}

// entry writes one file.
func (r *restore) entry(h *tar.Header, from io.Reader) (err error) {
	if h.Typeflag != tar.TypeReg || !allowedEntry(h.Name) {
		return errors.New("a backup holds no such file")
	}
	if _, twice := r.got[h.Name]; twice {
		return errors.New("it stands there twice")
	}
	path := filepath.Join(r.dir, filepath.FromSlash(h.Name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600|fs.FileMode(h.Mode)&0o755)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum, size := sha256.New(), int64(0)
	for {
		n, err := io.CopyN(io.MultiWriter(f, sum), from, 1<<20)
		size += n
		r.done += n
		if r.progress != nil {
			r.progress(int(r.done), 0)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = r.ctx.Err()
		}
		if err != nil {
			return err
		}
	}
	r.got[h.Name] = manifestEntryOf{h.Name, size, hex.EncodeToString(sum.Sum(nil))}
	return f.Sync()
}

// allowedEntry says whether a backup may hold a file of a name.
func allowedEntry(name string) bool {
	if !fs.ValidPath(name) || strings.Contains(name, "\\") {
		return false
	}
	if name == databaseEntry || name == inboxEntry || name == backfillFile || slices.Contains(keptFiles, name) {
		return true
	}
	folder, _, ok := strings.Cut(name, "/")
	return ok && slices.Contains(keptFolders, folder)
}

// check holds what was unpacked to the manifest, and the store to its own structure.
func (r *restore) check() error {
	for _, want := range r.manifest.Files {
		got, ok := r.got[want.Name]
		if !ok {
			return fmt.Errorf("%s is missing", want.Name)
		}
		if got != want {
			return fmt.Errorf("%s is damaged: it has %d bytes with the sum %s, and had %d with %s", want.Name, got.Size, got.SHA256, want.Size, want.SHA256)
		}
	}
	if len(r.manifest.Files) != len(r.got) {
		return fmt.Errorf("it holds %d files, its manifest names %d", len(r.got), len(r.manifest.Files))
	}
	_, hasStore := r.got[databaseEntry]
	switch kind := r.config.Store.Kind; {
	case hasStore && kind != "sqlite":
		return fmt.Errorf("it holds a store of SQLite, and statscache.store.url names %s", r.config.Store)
	case !hasStore && kind == "sqlite":
		return fmt.Errorf("its store is a %s, which is not in it, and statscache.store.url names %s", r.manifest.Store, r.config.Store)
	case !hasStore:
		return nil
	}
	problems, err := sqlite.Damaged(r.ctx, filepath.Join(r.dir, databaseEntry))
	if err != nil {
		return fmt.Errorf("the store: %w", err)
	}
	if len(problems) > 0 {
		return fmt.Errorf("the store is damaged: %s", strings.Join(problems, "; "))
	}
	return nil
}

// makeInbox puts what was accepted and not archived into a new inbox, numbered from the start.
func (r *restore) makeInbox() (err error) {
	in, err := os.Open(filepath.Join(r.dir, inboxEntry))
	if err != nil {
		return fmt.Errorf("the inbox: %w", err)
	}
	defer func() { _ = in.Close() }() // only read
	size := r.got[inboxEntry].Size
	j, err := journal.Open(journal.Options{Dir: filepath.Join(r.dir, "journal"), MaxBytes: max(r.config.JournalMaxBytes, 2*size+(64<<20)), TailBytes: -1, Logger: r.log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	r.stream = j.Stream()
	events := 0
	if err := decodeInbox(in, func(b *block.Block) error {
		events += b.Len()
		return j.Append([]*block.Block{renumbered(b, j.Next())})
	}); err != nil {
		return fmt.Errorf("the inbox: %w", err)
	}
	if events != r.manifest.Inbox {
		return fmt.Errorf("the inbox holds %d events, and held %d", events, r.manifest.Inbox)
	}
	return nil
}

// renumbered gives the same events at other positions.
func renumbered(b *block.Block, first uint64) *block.Block {
	out := *b
	out.First, out.Upto = first, first+(b.Upto-b.First)
	out.Seqs = nil
	for _, seq := range b.Seqs {
		out.Seqs = append(out.Seqs, seq-b.First+first)
	}
	return &out
}

// install gives everything its name. The folder goes last: while it is there nothing opens the data dir.
func (r *restore) install() error {
	if err := os.Remove(filepath.Join(r.dir, inboxEntry)); err != nil {
		return err
	}
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		to := filepath.Join(r.config.DataDir, e.Name())
		if e.Name() == databaseEntry {
			to = r.config.Store.Path
		}
		if err := moveNew(filepath.Join(r.dir, e.Name()), to); err != nil {
			return err
		}
	}
	if err := errors.Join(syncDir(r.config.DataDir), os.Remove(r.dir)); err != nil {
		return err
	}
	return syncDir(r.config.DataDir)
}

// moveNew moves a file or a folder to where there is none; the store's file may be on another file system.
func moveNew(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("%s exists", to)
	}
	err := os.Rename(from, to)
	if err == nil {
		return syncDir(filepath.Dir(to))
	}
	info, serr := os.Stat(from)
	if serr != nil || !info.Mode().IsRegular() {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close(), os.Remove(from), syncDir(filepath.Dir(to)))
}
