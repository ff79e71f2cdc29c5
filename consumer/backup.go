package consumer

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/statscache/statscache/consumer/control"
	"github.com/statscache/statscache/consumer/journal"
	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store/sqlite"
)

// A backup is a tar file compressed by zstd. Its entries are files of the data dir by their names there, but for
//
//	statscache.db  the store as it was at one moment, wherever its file is
//	inbox.blocks   what was accepted and not archived yet: a length (8 bytes, little endian) and a block, again and again
//	manifest.json  the last one: every other entry with its size and SHA-256
//
// What is said of backfills is read before the inbox, and that before the store: what was archived in between is in both, and
// counts once.
const (
	backupFormat  = 1
	databaseEntry = "statscache.db"
	inboxEntry    = "inbox.blocks"
	manifestEntry = "manifest.json"
	// backupRead is how much of the inbox is read at once.
	backupRead = 8 << 20
)

// keptFolders and keptFiles are what else of a data dir a backup holds.
var (
	keptFolders = []string{"rejects", "plugins"}                 // immutable
	keptFiles   = []string{switchesFile, programsFile, gapsFile} // immutable
)

// BackupSummary says what a backup holds.
type BackupSummary = control.BackupSummary

type manifest struct {
	Format  int               `json:"format"`
	Version string            `json:"version"`
	Created time.Time         `json:"created"`
	Store   string            `json:"store"`
	Stream  string            `json:"stream"`
	Inbox   int               `json:"inbox"` // events
	Files   []manifestEntryOf `json:"files"`
}

type manifestEntryOf struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Backup writes the whole data dir to a file, beside a running daemon or without one. See Daemon.Backup.
func Backup(ctx context.Context, o Options, path string, progress func(done, total int)) (sum BackupSummary, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return sum, err
	}
	if _, err := os.Stat(o.Config.DataDir); err != nil {
		return sum, fmt.Errorf("there is nothing to back up: data dir %s: %w", o.Config.DataDir, unwrapPath(err))
	}
	return besideOr(ctx, o.Config, func() (BackupSummary, error) {
		d, err := Open(ctx, o)
		if err != nil {
			return BackupSummary{}, err
		}
		sum, err := d.Backup(ctx, path, progress)
		return sum, errors.Join(err, d.Stop())
	}, func(c *control.Client) (BackupSummary, error) { return c.Backup(ctx, path, progress) })
}

// Backup writes the data dir to a file, which must not exist: all that was accepted before the call, and of later events
// some. The file has its name once it is whole and durable.
func (d *Daemon) Backup(ctx context.Context, path string, progress func(done, total int)) (sum BackupSummary, err error) {
	if !d.roles.Consume {
		return sum, errNoConsume
	}
	if !filepath.IsAbs(path) {
		return sum, fmt.Errorf("the path of a backup must be absolute, not %q", path)
	}
	if _, err := os.Lstat(path); err == nil {
		return sum, fmt.Errorf("%s exists already", path)
	}
	ctx, cancel := d.alive(ctx)
	defer cancel()
	folder, err := newBackupFolder(filepath.Dir(path))
	if err != nil {
		return sum, fmt.Errorf("backup to %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, folder.remove()) }()
	temp := folder.path
	m := manifest{Format: backupFormat, Version: d.version, Created: d.now().UTC(), Store: d.store.Kind(), Stream: d.journal.Stream()}
	inbox, database := filepath.Join(temp, inboxEntry), filepath.Join(temp, databaseEntry)
	files := []kept{{inboxEntry, inbox}}
	// What this file says is done was durable before: so it goes first, or the copy would believe to have what came later.
	text, err := os.ReadFile(filepath.Join(d.config.DataDir, backfillFile))
	if err == nil {
		files = append(files, kept{backfillFile, filepath.Join(temp, backfillFile)})
		err = os.WriteFile(filepath.Join(temp, backfillFile), text, 0o600)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return sum, fmt.Errorf("backup of %s: %w", backfillFile, err)
	}
	if m.Inbox, err = d.saveInbox(ctx, inbox); err != nil {
		return sum, fmt.Errorf("backup of the inbox: %w", err)
	}
	if m.Store == "sqlite" {
		if err := sqlite.Snapshot(ctx, d.config.Store.Path, database); err != nil {
			return sum, fmt.Errorf("backup of the store: %w", err)
		}
		files = append(files, kept{databaseEntry, database})
	}
	others, err := keptOf(d.config.DataDir)
	if err != nil {
		return sum, err
	}
	whole := filepath.Join(temp, "whole")
	if sum, err = writeBackup(ctx, whole, append(files, others...), m, progress); err != nil {
		return sum, fmt.Errorf("backup to %s: %w", path, err)
	}
	// A link fails where a rename would replace what somebody put there meanwhile.
	if err := os.Link(whole, path); err != nil {
		return sum, fmt.Errorf("backup to %s: %w", path, err)
	}
	sum.Path = path
	return sum, syncDir(filepath.Dir(path))
}

// saveInbox writes what is not archived yet.
func (d *Daemon) saveInbox(ctx context.Context, path string) (events int, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if e := d.early.Load(); e != nil { // first: what it hands on meanwhile is in the inbox after
		if events, err = save(ctx, e.inbox, f); err != nil && !errors.Is(err, journal.ErrClosed) { // all handed on
			return 0, err
		}
	}
	n, err := save(ctx, d.journal, f)
	return events + n, err
}

// save writes what an inbox has now.
func save(ctx context.Context, j *journal.Journal, f io.Writer) (events int, err error) {
	end := j.Next() - 1
	for pos := j.ArchivedTo(); pos < end; {
		blocks, err := j.ReadAfter(ctx, pos, backupRead)
		if errors.Is(err, journal.ErrTrimmed) { // archived meanwhile: the store has it
			pos = max(pos+1, j.ArchivedTo())
			continue
		}
		if err != nil {
			return 0, err
		}
		for _, b := range blocks {
			record := b.Append(make([]byte, 8))
			binary.LittleEndian.PutUint64(record, uint64(len(record)-8))
			if _, err := f.Write(record); err != nil {
				return 0, err
			}
			events, pos = events+b.Len(), b.Upto
		}
	}
	return events, nil
}

// kept is a file and its name in a backup.
type kept struct{ name, path string }

// keptOf lists what else of a data dir goes into a backup.
func keptOf(dir string) (out []kept, err error) {
	for _, name := range keptFiles {
		if info, err := os.Lstat(filepath.Join(dir, name)); err == nil && info.Mode().IsRegular() {
			out = append(out, kept{name, filepath.Join(dir, name)})
		}
	}
	for _, folder := range keptFolders {
		err := filepath.WalkDir(filepath.Join(dir, folder), func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && e.Type().IsRegular() {
				name, rerr := filepath.Rel(dir, path)
				out, err = append(out, kept{filepath.ToSlash(name), path}), rerr
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("backup of %s: %w", filepath.Join(dir, folder), err)
		}
	}
	return out, nil
}

// writeBackup writes the file, durable.
func writeBackup(ctx context.Context, path string, files []kept, m manifest, progress func(done, total int)) (sum BackupSummary, err error) {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	z, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return sum, err
	}
	w := &backupWriter{ctx: ctx, tar: tar.NewWriter(z), at: m.Created, progress: progress}
	for _, f := range files {
		if info, err := os.Stat(f.path); err == nil {
			w.total += info.Size()
		}
	}
	for _, f := range files {
		if err := w.file(f); err != nil {
			return sum, errors.Join(err, z.Close())
		}
	}
	m.Files = w.files
	text, err := json.MarshalIndent(m, "", " ")
	if err == nil {
		err = w.entry(manifestEntry, 0o600, int64(len(text)), bytes.NewReader(text))
	}
	if err = errors.Join(err, w.tar.Close(), z.Close()); err == nil {
		err = out.Sync()
	}
	if err != nil {
		return sum, err
	}
	info, err := out.Stat()
	if err != nil {
		return sum, err
	}
	return BackupSummary{Created: m.Created, Version: m.Version, Store: m.Store, Files: len(m.Files), Bytes: w.done, Packed: info.Size(), Inbox: m.Inbox, Stream: m.Stream}, nil
}

// backupWriter writes entries and remembers what they were.
type backupWriter struct {
	ctx         context.Context
	tar         *tar.Writer
	at          time.Time
	files       []manifestEntryOf
	done, total int64
	progress    func(done, total int)
	sum         hash.Hash
}

// file adds a file. One that grows meanwhile is cut at the end of its last whole line.
func (w *backupWriter) file(k kept) (err error) {
	f, err := os.Open(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was there a moment ago: rejects are turned over, plugins replaced
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if strings.HasSuffix(k.name, ".jsonl") {
		if size, err = wholeLines(f, size); err != nil {
			return err
		}
	}
	w.sum = sha256.New()
	if err := w.entry(k.name, int64(info.Mode().Perm()), size, io.LimitReader(f, size)); err != nil {
		return fmt.Errorf("%s: %w", k.path, err)
	}
	w.files = append(w.files, manifestEntryOf{k.name, size, hex.EncodeToString(w.sum.Sum(nil))})
	return nil
}

func (w *backupWriter) entry(name string, mode, size int64, from io.Reader) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: size, ModTime: w.at.Truncate(time.Second), Format: tar.FormatPAX}
	if err := w.tar.WriteHeader(h); err != nil {
		return err
	}
	for {
		n, err := io.CopyN(io.MultiWriter(w.tar, w.hash()), from, 1<<20)
		w.done += n
		if w.progress != nil {
			w.progress(int(w.done), int(w.total))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = w.ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

func (w *backupWriter) hash() io.Writer {
	if w.sum == nil {
		return io.Discard
	}
	return w.sum
}

// wholeLines gives how much of a file are whole lines.
func wholeLines(f *os.File, size int64) (int64, error) {
	const step = 64 << 10
	for size > 0 {
		n := min(size, step)
		piece := make([]byte, n)
		if _, err := f.ReadAt(piece, size-n); err != nil {
			return 0, err
		}
		if at := bytes.LastIndexByte(piece, '\n'); at >= 0 {
			return size - n + int64(at) + 1, nil
		}
		size -= n
	}
	return 0, nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Compact makes the store's file as small as it can be, beside a running daemon or without one.
func Compact(ctx context.Context, o Options) error {
	_, err := besideOr(ctx, o.Config, func() (struct{}, error) {
		d, err := Open(ctx, o)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, errors.Join(d.Compact(ctx), d.Stop())
	}, func(c *control.Client) (struct{}, error) { return struct{}{}, c.Compact(ctx) })
	return err
}

// Compact makes the store's file as small as it can be. The inbox keeps what comes in meanwhile.
func (d *Daemon) Compact(ctx context.Context) error {
	ctx, cancel := d.alive(ctx)
	defer cancel()
	c, ok := d.store.(interface{ Compact(context.Context) error })
	if !ok {
		return fmt.Errorf("store %s looks after its size by itself", d.config.Store)
	}
	return c.Compact(ctx)
}

// decodeInbox reads the blocks of a backup's inbox.
func decodeInbox(in io.Reader, f func(*block.Block) error) error {
	for {
		var head [8]byte
		if _, err := io.ReadFull(in, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		size := binary.LittleEndian.Uint64(head[:])
		if size > maxInboxBlock {
			return fmt.Errorf("a block of %d bytes", size)
		}
		record := make([]byte, size)
		if _, err := io.ReadFull(in, record); err != nil {
			return err
		}
		b, err := block.Decode(record)
		if err == nil {
			err = f(b)
		}
		if err != nil {
			return err
		}
	}
}

// maxInboxBlock bounds a block in a backup: what fits one is bounded by the largest message that may be configured.
const maxInboxBlock = 256 << 20
