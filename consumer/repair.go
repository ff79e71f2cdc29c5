package consumer

import (
	"context"
	"fmt"
	"slices"

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

// repairAll verifies and mends, plugin by plugin, and where anything was mended verifies again: the report is of the
// numbers as they are afterwards.
func (v *verifier) repairAll(ctx context.Context, programs []host.Program, metrics []string) (VerifyReport, error) {
	v.fixes = &fixes{}
	if err := v.all(ctx, programs, metrics); err != nil || v.report.Mended == 0 {
		return v.report, err
	}
	mended, changed := v.report.Mended, v.report.Changed
	v.report, v.fixes = VerifyReport{Mended: mended, Changed: changed}, nil
	err := v.all(ctx, programs, metrics)
	return v.report, err
}

// mend puts right what was found wrong in one plugin's numbers.
func (v *verifier) mend(ctx context.Context, plugin string, generation uint32, before, after []store.Position) error {
	r, full, said := v.fixes.repair, v.fixes.full, v.fixes.said
	v.fixes = &fixes{}
	n := len(r.Cells) + len(r.Latest)
	switch {
	case n == 0:
		return nil
	case full:
		return fmt.Errorf("plugin %s: more than %d numbers are wrong: `statscache recount` counts its metrics anew", plugin, maxFixes)
	case !slices.Equal(before, after) || slices.ContainsFunc(after, func(p store.Position) bool { return p.Pos != p.Intent }):
		return fmt.Errorf("plugin %s: %w", plugin, store.ErrMoved)
	}
	r.Plugin, r.Generation, r.At = plugin, generation, after
	if err := v.store.Repair(ctx, r); err != nil {
		return fmt.Errorf("mend the numbers of plugin %s: %w", plugin, err)
	}
	v.report.Mended += n
	v.report.Changed = append(v.report.Changed, said[:min(len(said), foundLimit-len(v.report.Changed))]...)
	return nil
}
