package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/statscache/statscache/plugins/host"
	"github.com/statscache/statscache/store"
)

// maxFixes bounds what a repair gathers for one plugin: where more is wrong, it is better counted anew.
const maxFixes = 1 << 20

// fixes gathers what a comparison found wrong in one plugin's numbers. A nil one gathers nothing.
type fixes struct {
	repair store.Repair
	full   bool
	said   []string // the first of them, as the report has them
}

// room notes the sentence that tells of a difference and says whether there is room for it.
func (f *fixes) room(said string) bool {
	if f == nil {
		return false
	}
	if len(f.said) < foundLimit {
		f.said = append(f.said, said)
	}
	f.full = f.full || len(f.repair.Cells)+len(f.repair.Latest) >= maxFixes
	return !f.full
}

func (f *fixes) cell(said string, x store.CellFix) {
	if f.room(said) {
		f.repair.Cells = append(f.repair.Cells, x)
	}
}

func (f *fixes) latest(said string, x store.LatestFix) {
	if f.room(said) {
		f.repair.Latest = append(f.repair.Latest, x)
	}
}

const (
	// repairPasses is how often everything is verified at most: what a daemon adds meanwhile may hide a difference from
	// a pass.
	repairPasses = 4
	// mendTries is how often a slice is compared again because the numbers went on.
	mendTries = 20
	mendPause = 50 * time.Millisecond
)

// repairAll verifies and mends until there is nothing left to mend: the report is of the numbers as they are then.
func (v *verifier) repairAll(ctx context.Context, programs []host.Program, metrics []string) (VerifyReport, error) {
	v.fixes = &fixes{}
	mended, changed := 0, []string(nil)
	for range repairPasses {
		v.report = VerifyReport{Changed: changed}
		err := v.all(ctx, programs, metrics)
		n := v.report.Mended
		mended, changed = mended+n, v.report.Changed
		v.report.Mended = mended
		if err != nil || n == 0 {
			return v.report, err
		}
	}
	v.report = VerifyReport{Mended: mended, Changed: changed}
	v.fixes = nil
	err := v.all(ctx, programs, metrics)
	return v.report, err
}

// mend puts right what a comparison has found wrong. Where the numbers have gone on since, it keeps the daemon from
// adding to them and compares again. saved is the report from before the comparison.
func (v *verifier) mend(ctx context.Context, plugin string, generation uint32, saved VerifyReport, at positions, again func() (positions, error)) error {
	defer func() { v.fixes = &fixes{} }()
	free := v.hold != nil // to take dead letters back, which moves no position: Repair would not see it
	for try := 0; ; try++ {
		r, said := v.fixes.repair, v.fixes.said
		n := len(r.Cells) + len(r.Latest)
		switch {
		case n == 0:
			return nil
		case v.fixes.full:
			return fmt.Errorf("plugin %s: more than %d numbers are wrong: `statscache recount` counts its metrics anew", plugin, maxFixes)
		}
		if at.steady() && !free {
			r.Plugin, r.Generation, r.At = plugin, generation, at.after
			err := v.store.Repair(ctx, r)
			if err == nil {
				v.report.Mended += n
				v.report.Changed = append(v.report.Changed, said[:min(len(said), foundLimit-len(v.report.Changed))]...)
				return nil
			}
			if !errors.Is(err, store.ErrMoved) || try == mendTries {
				return fmt.Errorf("mend the numbers of plugin %s: %w", plugin, err)
			}
		} else if try == mendTries && !free {
			return fmt.Errorf("mend the numbers of plugin %s: %w", plugin, store.ErrMoved)
		}
		if try == 0 && v.hold != nil {
			release, err := v.hold(plugin)
			free = false
			if err == nil {
				defer release()
			} else if !errors.Is(err, host.ErrUnknownPlugin) { // of one that isn't run nothing is added
				return err
			}
		} else if err := pause(ctx, mendPause); err != nil {
			return err
		}
		v.narrow(r.Cells)
		v.report, v.fixes = saved, &fixes{}
		var err error
		if at, err = again(); err != nil {
			return err
		}
	}
}

// narrow leaves of the current slice the buckets that are wrong: the daemon is held up while they are compared again.
func (v *verifier) narrow(wrong []store.CellFix) {
	if len(wrong) == 0 {
		return
	}
	byTime := func(a, b store.CellFix) int { return cmp.Compare(a.Time, b.Time) }
	v.from, v.to = slices.MinFunc(wrong, byTime).Time, slices.MaxFunc(wrong, byTime).Time+1
}

// pause waits, or says that ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
