package consumer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"

	"github.com/statscache/statscache/consumer/control"
	"github.com/statscache/statscache/consumer/fedmsg"
)

const (
	// importAhead is how many events an import may be ahead of the archive. What it puts into the inbox stands before
	// what the bus sends then: this bounds how much later that is counted.
	importAhead = 64 << 10
	// importShare is the part of the inbox (1 in so many) that an import leaves to the bus.
	importShare = 2
)

// ImportSummary is what became of the lines of an import.
type ImportSummary = control.ImportSummary

// ImportOptions say how an import tells of itself.
type ImportOptions struct {
	Stdin    io.Reader
	Progress func(lines int)                                    // called now and then with the lines read so far
	Bad      func(file string, line int, reason, detail string) // called for every line that is refused
	NoWait   bool                                               // return before the plugins have caught up
}

func (o ImportOptions) control() control.ImportOptions {
	out := control.ImportOptions{Progress: o.Progress, NoWait: o.NoWait}
	if o.Bad != nil {
		out.Bad = func(b control.BadLine) { o.Bad(b.File, b.Line, b.Reason, b.Detail) }
	}
	return out
}

// Import feeds files through the ordinary path, some of them side by side. It returns once everything is archived and,
// but with NoWait, counted.
func (d *Daemon) Import(ctx context.Context, files []string, o ImportOptions) (ImportSummary, error) {
	return importSideBySide(ctx, files, o, d.ImportFiles)
}

// ImportFiles is Import for files that somebody else has opened. The numbers of the summary are those of this import,
// whatever the bus or other imports bring in meanwhile.
func (d *Daemon) ImportFiles(ctx context.Context, next control.NextFile, o control.ImportOptions) (ImportSummary, error) {
	ctx, cancel := d.alive(ctx)
	defer cancel()
	sum, err := d.importFiles(ctx, next, o)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // why it ended says more than where it stood
	}
	return sum, err
}

func (d *Daemon) importFiles(ctx context.Context, next control.NextFile, o control.ImportOptions) (ImportSummary, error) {
	if !d.roles.Consume {
		return ImportSummary{}, errNoConsume
	}
	i := &importing{daemon: d, options: o, tally: &importTally{}, sum: ImportSummary{Rejected: map[string]int{}}}
	for {
		name, r, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = i.file(ctx, name, r)
		}
		if err != nil {
			return i.sum, err
		}
	}
	to, err := d.ingest.flush(ctx)
	if err != nil {
		return i.sum, fmt.Errorf("write to the inbox: %w", err)
	}
	if err := d.waitArchived(ctx, to); err != nil {
		return i.sum, err
	}
	i.sum.Owned, i.sum.Duplicates, i.sum.Expired = int(i.tally.owned.Load()), int(i.tally.duplicates.Load()), int(i.tally.expired.Load())
	if o.NoWait {
		return i.sum, nil
	}
	return i.sum, d.waitComputed(ctx)
}

// importing is an import under way.
type importing struct {
	daemon  *Daemon
	options control.ImportOptions
	tally   *importTally
	sum     ImportSummary
}

func (i *importing) file(ctx context.Context, name string, from io.Reader) error {
	d := i.daemon
	r := newLineReader(name, from, d.config.MaxMessageBytes)
	defer r.stop()
	bad := &badLines{file: name, tell: i.options.Bad, rejected: map[string]int{}}
	r.bad = func(line int, reason, detail string) {
		d.metrics.reject("import", reason)
		bad.line(line, fedmsg.Reason(reason), detail)
	}
	r.tooLong = func(line, size int) {
		d.metrics.reject("import", string(fedmsg.SizeReason))
		bad.line(line, fedmsg.SizeReason, fmt.Sprintf("%d bytes are more than the limit of %d", size, d.config.MaxMessageBytes))
	}
	store, _ := d.store.(knowing)
	x := &lineDecoding{ingest: d.ingest, tally: i.tally, store: store, room: d.waitRoom, told: func(lines int) {
		if i.sum.Lines += lines; i.options.Progress != nil {
			i.options.Progress(i.sum.Lines)
		}
	}, bad: func(b *lineBatch, r refusal) { bad.line(b.lineOf(r.i), r.reason, r.detail) }}
	x.start(ctx)
	var err error
	for err == nil {
		var b lineBatch
		if b, err = r.next(ctx); err == nil {
			err = x.give(b)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	// Refused lines of this file are told of before the next one begins, and before what is wrong with it.
	if ended := x.end(); err == nil {
		err = ended
	}
	for reason, n := range bad.counts() {
		i.sum.Rejected[reason] += n
	}
	return err
}

// waitRoom holds an import back while it is far ahead of the archive: the inbox is there for what the bus sends.
func (d *Daemon) waitRoom(ctx context.Context) error {
	for {
		end, changed := d.feed.watch()
		ahead := int64(d.journal.Next()-1) - int64(end)
		used, limit := d.journal.Bytes()
		if ahead <= 0 || (ahead < importAhead && used < limit-limit/importShare) {
			return nil
		}
		select {
		case <-changed:
		case <-d.archiver.inbox.forGood():
			return d.archiver.inbox.err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// badLines gathers what was refused of a file. The decoder calls it from its own goroutine.
type badLines struct {
	file     string
	tell     func(control.BadLine)
	mu       sync.Mutex
	rejected map[string]int
}

func (b *badLines) line(n int, reason fedmsg.Reason, detail string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rejected[string(reason)]++
	if b.tell != nil {
		b.tell(control.BadLine{File: b.file, Line: n, Reason: string(reason), Detail: detail})
	}
}

func (b *badLines) counts() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.rejected)
}
