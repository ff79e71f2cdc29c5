package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/consumer/control"
	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/plugins/host"
	"github.com/statscache/statscache/store"
)

// foundLimit bounds the differences that a report names one by one.
const foundLimit = 1000

// saidLimit bounds a sentence of a report, in bytes: keys and values may be long.
const saidLimit = 2 << 10

// VerifyOptions say what to recompute; zero values stand for everything.
type VerifyOptions struct {
	Metrics  []string
	From, To time.Time // buckets that start in [From, To)
	Repair   bool      // mend what differs: a daemon that runs on the data dir does it
	Progress func(rows int)
	Bundled  []host.Program
	Logger   *slog.Logger
}

// VerifyReport is what a recount came to.
type VerifyReport = control.VerifyReport

// differ counts a difference and gives the sentence that tells of it.
func (v *verifier) differ(format string, args ...any) string {
	v.report.Differences++
	return v.note(format, args...)
}

// note adds a sentence to the report.
func (v *verifier) note(format string, args ...any) string {
	said := fmt.Sprintf(format, args...)
	said = strings.ToValidUTF8(said[:min(len(said), saidLimit)], "")
	if len(v.report.Found) < foundLimit {
		v.report.Found = append(v.report.Found, said)
	}
	return said
}

// verifier compares a store with recounts of its archive. Unless it mends it only reads, so it works beside a daemon.
type verifier struct {
	store    store.Store
	host     *host.Host
	horizons store.Horizons
	asked    window // of bucket starts
	from, to int64  // the slice under comparison: bucket starts in [from, to), seconds since 1970
	wanted   map[string]bool
	report   VerifyReport
	fixes    *fixes                              // nil where nothing is to be mended
	hold     func(plugin string) (func(), error) // keeps a running daemon from adding to a plugin's numbers; nil without one
	clean    []candidate                         // whose plugins' numbers are all as their programs count them now
	progress func(rows int)                      // hears of the rows compared so far; nil for nobody
}

// window is [from, to) in seconds since 1970.
type window struct{ from, to int64 }

// side says whether a time in µs since 1970 lies before the window (-1), in it (0) or behind it (1).
func (w window) side(us int64) int {
	switch s := floorDiv(us, 1_000_000); {
	case s < w.from:
		return -1
	case s >= w.to:
		return 1
	}
	return 0
}

func floorDiv(x, by int64) int64 {
	q := x / by
	if x%by < 0 {
		q--
	}
	return q
}

// Verify recomputes numbers from the archive, by fresh plugin processes, and compares them with what is stored.
func Verify(ctx context.Context, c *config.Config, o VerifyOptions) (report VerifyReport, err error) {
	if _, err := os.Stat(c.Store.Path); c.Store.Kind == "sqlite" && errors.Is(err, os.ErrNotExist) {
		return report, fmt.Errorf("there is nothing to verify: %s does not exist", c.Store.Path)
	}
	if o.Repair {
		return orBeside(ctx, c, func() (VerifyReport, error) { return verifyHere(ctx, c, o) }, func(client *control.Client) (VerifyReport, error) {
			return client.Repair(ctx, control.RepairRequest{Metrics: o.Metrics, From: o.From, To: o.To}, o.Progress)
		})
	}
	return verifyHere(ctx, c, o)
}

// verifyHere is Verify in this process. To repair, the caller holds the data dir's lock.
func verifyHere(ctx context.Context, c *config.Config, o VerifyOptions) (report VerifyReport, err error) {
	s, h, done, err := openForRecount(ctx, c, !o.Repair, o.Logger)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, done()) }()
	v := &verifier{store: s, host: h, asked: asked(o.From, o.To), progress: o.Progress}
	programs := allPrograms(o.Bundled, c, o.Logger)
	if o.Repair {
		report, err = v.repairAll(ctx, programs, o.Metrics)
	} else {
		err = v.all(ctx, programs, o.Metrics)
		report = v.report
	}
	if err == nil {
		v.lift(newChanges(c.DataDir, orDiscard(o.Logger), nil))
	}
	return report, err
}

func orDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}

// lift lifts the doubt about the programs that all numbers agree with. Where that can't be written, the doubt stays.
func (v *verifier) lift(c *changes) {
	if err := c.lift(v.clean); err != nil {
		c.log.Warn("the doubt about a plugin's program could not be lifted", "error", err)
	}
}

func everywhere() window { return window{math.MinInt64, math.MaxInt64} }

// asked is the window of a command; zero times stand for everything.
func asked(from, to time.Time) window {
	w := everywhere()
	if !from.IsZero() {
		w.from = from.Unix()
	}
	if !to.IsZero() {
		w.to = to.Unix()
	}
	return w
}

// Repair verifies and mends beside everything else that the daemon does. Where something is wrong, the commits of that
// plugin wait while it is mended.
func (d *Daemon) Repair(ctx context.Context, r control.RepairRequest, progress func(rows int)) (VerifyReport, error) {
	if !d.repairing.TryLock() {
		return VerifyReport{}, errors.New("numbers are being mended already")
	}
	defer d.repairing.Unlock()
	ctx, cancel := d.alive(ctx)
	defer cancel()
	v := &verifier{store: d.store, host: d.host, asked: asked(r.From, r.To), progress: progress, hold: d.host.Hold}
	report, err := v.repairAll(ctx, d.programs(), r.Metrics)
	if err == nil {
		v.lift(d.changes)
	}
	return report, err
}

// programs gives the bundled plugins and those in the folders as they are now.
func (d *Daemon) programs() []host.Program {
	bundled := slices.DeleteFunc(slices.Clone(d.host.Programs), func(p host.Program) bool { return !p.Builtin })
	return allPrograms(bundled, d.config, d.log)
}

// openForRecount opens a data dir's store and a host whose plugin processes count without writing anything. done closes
// both.
func openForRecount(ctx context.Context, c *config.Config, readOnly bool, log *slog.Logger) (s store.Store, h *host.Host, done func() error, err error) {
	if s, err = openStore(ctx, c, readOnly, log, time.Now); err != nil {
		return nil, nil, nil, err
	}
	if h, done, err = recountOn(s, c, log); err != nil {
		return nil, nil, nil, errors.Join(err, s.Close())
	}
	return s, h, done, nil
}

// recountOn makes the host of openForRecount on a store; done closes both.
func recountOn(s store.Store, c *config.Config, log *slog.Logger) (h *host.Host, done func() error, err error) {
	runDir, err := os.MkdirTemp("", "statscache-recount-")
	if err != nil {
		return nil, nil, fmt.Errorf("make a folder for plugin sockets: %w", err)
	}
	if h, err = host.New(host.Options{RunDir: runDir, Config: c.PluginsConfig, Logger: log}); err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(runDir))
	}
	return h, func() error { return errors.Join(h.Close(), os.RemoveAll(runDir), s.Close()) }, nil
}

// all verifies plugin by plugin.
func (v *verifier) all(ctx context.Context, programs []host.Program, metrics []string) error {
	served, err := v.store.Metrics(ctx)
	if err != nil {
		return fmt.Errorf("list metrics: %w", err)
	}
	if v.horizons, err = v.store.Horizons(ctx); err != nil {
		return fmt.Errorf("read horizons: %w", err)
	}
	if err := v.choose(served, metrics); err != nil {
		return err
	}
	known, err := v.store.Plugins(ctx)
	if err != nil {
		return fmt.Errorf("list plugins: %w", err)
	}
	byPlugin, all := map[string][]store.ServedMetric{}, map[string]int{}
	for _, m := range served {
		all[m.Plugin]++
		if v.wanted[m.ID] {
			byPlugin[m.Plugin] = append(byPlugin[m.Plugin], m)
		}
	}
	candidates := v.describe(ctx, programs)
	v.clean = nil
	for _, p := range known {
		list := byPlugin[p.ID]
		if len(list) == 0 {
			continue
		}
		v.report.Metrics += len(list)
		program, ok := candidates[p.ID]
		if ok && program.plugin.Fingerprint == p.Fingerprint {
			before := v.report.Differences
			err = v.plugin(ctx, program, list)
			if v.asked == everywhere() && len(list) == all[p.ID] && v.report.Differences == before {
				v.clean = append(v.clean, program)
			}
		} else {
			err = v.unverifiable(ctx, p.ID, list, ok)
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// choose notes the metrics to verify: ids, or idents with their interval.
func (v *verifier) choose(served []store.ServedMetric, names []string) error {
	v.wanted = map[string]bool{}
	known := map[string]bool{}
	for _, m := range served {
		known[m.ID] = true
		v.wanted[m.ID] = len(names) == 0
	}
	for _, n := range names {
		if !known[n] {
			return fmt.Errorf("no metric %q is stored here", n)
		}
		v.wanted[n] = true
	}
	return nil
}

// candidate is a program that says it is a certain plugin.
type candidate struct {
	program host.Program
	plugin  store.Plugin
	frames  bool
}

// describe asks every program what it is; the first one with an id has it, as when the daemon runs.
func (v *verifier) describe(ctx context.Context, programs []host.Program) map[string]candidate {
	out := map[string]candidate{}
	for _, p := range programs {
		def, frames, err := v.host.Definition(ctx, p)
		if err != nil {
			v.note("plugin %s can't be asked: %v", p.ID, err)
			continue
		}
		if _, taken := out[def.ID]; !taken {
			out[def.ID] = candidate{p, def, frames}
		}
	}
	return out
}

// unverifiable counts the rows of a plugin that can't be run as it was.
func (v *verifier) unverifiable(ctx context.Context, plugin string, list []store.ServedMetric, changed bool) error {
	v.from, v.to = v.asked.from, v.asked.to
	before := v.report.NotVerifiable
	for _, m := range list {
		for _, interval := range m.Intervals {
			err := v.store.EachCell(ctx, v.cells(m, interval), func(store.Row) error { v.report.NotVerifiable++; return nil })
			if err != nil {
				return fmt.Errorf("read %s: %w", m.ID, err)
			}
		}
	}
	why := "its program is not here"
	if changed {
		why = "its program counts otherwise than the one that made them"
	}
	v.note("plugin %s: %d rows can't be verified: %s", plugin, v.report.NotVerifiable-before, why)
	return nil
}

func (v *verifier) cells(m store.ServedMetric, interval time.Duration) store.CellQuery {
	return store.CellQuery{Plugin: m.Plugin, Metric: m.ID, Generation: m.Generation, Interval: interval, From: v.from, To: v.to}
}

// swaps is how often a plugin is verified anew because another generation took the place of the one that was read.
const swaps = 3

// plugin verifies the metrics of one plugin.
func (v *verifier) plugin(ctx context.Context, p candidate, list []store.ServedMetric) error {
	saved := v.report
	for try := 1; ; try++ {
		err := v.slices(ctx, p, list)
		if !errors.Is(err, errSwapped) || try == swaps {
			return err
		}
		saved.Mended, saved.Changed = v.report.Mended, v.report.Changed
		v.report = saved
		served, err := v.store.Metrics(ctx)
		if err != nil {
			return fmt.Errorf("list metrics: %w", err)
		}
		list = slices.DeleteFunc(served, func(m store.ServedMetric) bool { return m.Plugin != p.plugin.ID || !v.wanted[m.ID] })
		if len(list) == 0 {
			return nil
		}
	}
}

// stream yields the events of a stream in (pos, to]; false where the receiver wants no more or an error ended it.
func (v *verifier) stream(ctx context.Context, stream string, pos, to uint64, frames bool, dead map[letter]bool, yield func(*block.Block, error) bool) bool {
	for pos < to {
		blocks, upto, err := v.store.Read(ctx, store.ReadRequest{Stream: stream, After: pos, Events: readEvents, Bodies: frames})
		if err != nil {
			yield(nil, fmt.Errorf("read the archive of stream %s: %w", stream, err))
			return false
		}
		if upto <= pos {
			return true // what was archived there has expired since
		}
		for _, b := range blocks {
			if b, err = b.Keep(v.keep(b, stream, pos, to, dead)); err != nil {
				yield(nil, err)
				return false
			}
			if b.Len() > 0 && !yield(b, nil) {
				return false
			}
		}
		pos = upto
	}
	return true
}

// keep marks the events of a block to recount: in (pos, to] and no dead letters.
func (v *verifier) keep(b *block.Block, stream string, pos, to uint64, dead map[letter]bool) []bool {
	keep := make([]bool, b.Len())
	for i := range keep {
		seq := b.Seq(i)
		keep[i] = seq > pos && seq <= to && !dead[letter{stream, seq}]
	}
	return keep
}

// letter names a dead letter.
type letter struct {
	stream string
	seq    uint64
}

// revived gives the dead letters that are none any more: their events are in the numbers by now.
func revived(before, after map[letter]bool) map[letter]bool {
	out := map[letter]bool{}
	for l := range before {
		if !after[l] {
			out[l] = true
		}
	}
	return out
}

// only yields single events.
func (v *verifier) only(ctx context.Context, list map[letter]bool, frames bool) blocks {
	order := slices.SortedFunc(maps.Keys(list), func(a, b letter) int {
		return cmp.Or(cmp.Compare(a.stream, b.stream), cmp.Compare(a.seq, b.seq))
	})
	return func(yield func(*block.Block, error) bool) {
		for _, l := range order {
			if !v.stream(ctx, l.stream, l.seq-1, l.seq, frames, nil, yield) {
				return
			}
		}
	}
}

// lettersAtOnce is how many dead letters are asked for first.
const lettersAtOnce = 1024

// deadLetters gives the events that a generation could not take: they are in no number of it. All of them come from one
// read: between two, others may come in and push out some that were there.
func deadLetters(ctx context.Context, s store.Reader, plugin string, generation uint32) (map[letter]bool, error) {
	read := func(limit int) (list []store.StreamDeadLetter, err error) {
		list, _, err = s.DeadLetters(ctx, plugin, limit)
		return list, err
	}
	if q, ok := s.(store.Requeuer); ok {
		read = func(limit int) (list []store.StreamDeadLetter, err error) {
			list, _, err = q.Buried(ctx, plugin, generation, store.Place{}, limit)
			return list, err
		}
	}
	for limit := lettersAtOnce; ; limit *= 4 {
		list, err := read(limit)
		if err != nil {
			return nil, fmt.Errorf("dead letters of %s: %w", plugin, err)
		}
		if len(list) == limit {
			continue // there may be more
		}
		out := map[letter]bool{}
		for _, d := range list {
			out[letter{d.Stream, d.Seq}] = true
		}
		return out, nil
	}
}
