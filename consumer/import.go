package consumer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"

	"github.com/statscache/statscache/consumer/fedmsg"
)

// ImportOptions say how an import tells of itself.
type ImportOptions struct {
	Stdin    io.Reader
	Progress func(lines int)                                    // called now and then with the lines read so far
	Bad      func(file string, line int, reason, detail string) // called for every line that is refused
	NoWait   bool                                               // return before the plugins have caught up
}

// Import feeds files of JSON lines through the ordinary path. It returns once everything is archived and, but with
// NoWait, counted.
func (d *Daemon) Import(ctx context.Context, files []string, o ImportOptions) (ImportSummary, error) {
	before := d.counts()
	sum := ImportSummary{Rejected: map[string]int{}}
	for _, file := range files {
		if err := d.importFile(ctx, file, o, &sum); err != nil {
			return sum, err
		}
	}
	to, err := d.ingest.flush(ctx)
	if err != nil {
		return sum, fmt.Errorf("write to the inbox: %w", err)
	}
	if err := d.waitArchived(ctx, to); err != nil {
		return sum, err
	}
	after := d.counts()
	sum.Owned, sum.Duplicates, sum.Expired = after.owned-before.owned, after.duplicate-before.duplicate, after.expired-before.expired
	if o.NoWait {
		return sum, nil
	}
	return sum, d.waitComputed(ctx)
}

func (d *Daemon) importFile(ctx context.Context, file string, o ImportOptions, sum *ImportSummary) error {
	r, err := openLines(file, o.Stdin, d.config.MaxMessageBytes)
	if err != nil {
		return err
	}
	bad := &badLines{file: r.name, tell: o.Bad, rejected: map[string]int{}}
	r.tooLong = func(line, size int) {
		d.metrics.reject(r.name, string(fedmsg.SizeReason))
		bad.line(line, fedmsg.SizeReason, fmt.Sprintf("%d bytes are more than the limit of %d", size, d.config.MaxMessageBytes))
	}
	for err == nil {
		var first int
		var messages [][][]byte
		if first, messages, err = r.next(ctx); err == nil {
			err = d.ingest.submit(ctx, batch{source: "import", messages: messages, backfill: true, received: d.now().UnixMicro(),
				bad: func(i int, reason fedmsg.Reason, detail string) { bad.line(first+i, reason, detail) }})
			sum.Lines += len(messages)
			if o.Progress != nil {
				o.Progress(sum.Lines)
			}
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err == nil {
		_, err = d.ingest.flush(ctx) // refused lines of this file are told of before the next one begins
	}
	for reason, n := range bad.counts() {
		sum.Rejected[reason] += n
	}
	return errors.Join(err, r.close())
}

// badLines gathers what was refused of a file. The decoder calls it from its own goroutine.
type badLines struct {
	file     string
	tell     func(file string, line int, reason, detail string)
	mu       sync.Mutex
	rejected map[string]int
}

func (b *badLines) line(n int, reason fedmsg.Reason, detail string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rejected[string(reason)]++
	if b.tell != nil {
		b.tell(b.file, n, string(reason), detail)
	}
}

func (b *badLines) counts() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.rejected)
}
