package main

import (
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"
)

// progress shows how far a long piece of work is: a bar on a terminal, nothing elsewhere.
type progress struct {
	bar  *progressbar.ProgressBar
	last atomic.Int64
}

// newProgress starts a bar; a total of 0 is unknown.
func newProgress(w io.Writer, what string, total int) *progress {
	if f, ok := w.(*os.File); !ok || !isatty.IsTerminal(f.Fd()) {
		return &progress{}
	}
	if total == 0 {
		total = -1
	}
	return &progress{bar: progressbar.NewOptions(total, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString(what), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetWidth(30), progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish())}
}

// set moves the bar to n.
func (p *progress) set(n int) {
	if p.bar != nil && p.last.Swap(int64(n)) != int64(n) {
		_ = p.bar.Set(n) // a terminal that went away is no reason to stop
	}
}

// of is set where the total is known by and by; the bar says how long it will take then.
func (p *progress) of(n, total int) {
	if p.bar != nil && total > 0 {
		p.bar.ChangeMax(max(n, total))
	}
	p.set(n)
}

// done takes the bar away.
func (p *progress) done() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
