package consumer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/statscache/statscache/consumer/control"
	"github.com/statscache/statscache/consumer/gaps"
	"github.com/statscache/statscache/consumer/gaps/counter"
	"github.com/statscache/statscache/consumer/source/datagrepper"
	"github.com/statscache/statscache/consumer/source/zmq"
)

const (
	// gapsFile keeps, in the data dir, when nobody listened.
	gapsFile = "gaps.json"
	// gapsEvery is how often it is noted that somebody listens: what a kill leaves in doubt is that long.
	gapsEvery = 10 * time.Second
	// gapMargin is how much more than a gap is fetched on both sides: clocks differ.
	gapMargin = time.Minute
)

// startGaps notes when this process listens, and to whom it does not.
func (d *Daemon) startGaps() error {
	if len(listenTo(d.config)) == 0 {
		return nil
	}
	ledger, err := gaps.Open(filepath.Join(d.config.DataDir, gapsFile))
	if err == nil {
		err = ledger.Begin(d.now().Unix())
	}
	if err != nil {
		return err
	}
	d.gaps.Store(ledger)
	d.background("gaps", func(ctx context.Context) error {
		tick := time.NewTicker(gapsEvery)
		defer tick.Stop()
		for failing := false; ; {
			var ended bool
			select {
			case <-tick.C:
			case <-ctx.Done():
				ended = true
			}
			err := errors.Join(ledger.Count(d.counted(ended)), ledger.Note(d.now().Unix(), d.unheard(ledger, ended)))
			if err != nil && !failing {
				d.log.Error("what is missing can't be noted; it is tried again", "error", err)
			}
			if failing = err != nil; ended {
				return nil
			}
		}
	})
	return nil
}

// judgeCounters says whether publishers' counters tell of losses: where only some topics are asked for, they don't.
func (d *Daemon) judgeCounters(topics []string) {
	d.ingest.counters.Judge(len(topics) == 0 || slices.Contains(topics, ""))
}

// counted gives what publishers' counters tell since it was asked last.
func (d *Daemon) counted(last bool) []counter.Report {
	if d.waiting.Load() != nil {
		return nil // what comes early is decoded elsewhere
	}
	var current []counter.Address
	for _, h := range d.health() {
		current = append(current, counter.Address{Name: h.Name, Address: h.Address})
	}
	reports := d.ingest.counters.Look(current, last)
	for _, r := range reports {
		if n := len(r.Lost); n > 0 {
			missing := uint64(0)
			for _, x := range r.Lost {
				missing += x.Missing
			}
			d.metrics.lost.WithLabelValues(r.Name).Add(float64(missing))
			d.log.Warn("messages are missing, by their publisher's own count", "endpoint", r.Name, "address", r.Address.Address, "missing", missing,
				"from", time.Unix(r.Lost[0].From, 0).UTC(), "to", time.Unix(r.Lost[n-1].To, 0).UTC())
		}
		if r.Withdrawn {
			d.log.Warn("several publishers count at one address: what is missing of theirs can't be told", "endpoint", r.Name, "address", r.Address.Address)
		}
	}
	return reports
}

// unheard names the endpoints that nothing comes from any more; at the end all are closed, which says nothing.
func (d *Daemon) unheard(ledger *gaps.Ledger, ended bool) []string {
	if ended {
		return nil
	}
	var ever, down []string
	for _, h := range d.health() {
		name := h.Name + " at " + h.Address
		if h.Connects > 0 {
			ever = append(ever, name)
		}
		if h.State != zmq.Up {
			down = append(down, name)
		}
	}
	return ledger.Missed(ever, down)
}

// backfillGaps fetches what is missing of the times when nobody listened, or not to all; under backfilling.
func (d *Daemon) backfillGaps(ctx context.Context, r BackfillRequest, progress func(events, about int)) (BackfillSummary, error) {
	now := d.now()
	ledger, err := d.ledger()
	if err != nil {
		return BackfillSummary{}, err
	}
	state, err := datagrepper.OpenState(filepath.Join(d.config.DataDir, backfillFile))
	if err != nil {
		return BackfillSummary{}, err
	}
	key := datagrepper.Key(r.URL)
	spans := state.Wanted(key)
	for _, g := range ledger.Known(now.Unix()) {
		margin := int64(gapMargin / time.Second)
		spans = append(spans, datagrepper.Span{From: g.From - margin, To: min(g.To+margin, now.Unix()+1)})
	}
	spans = within(datagrepper.Merged(spans), r)
	sum := BackfillSummary{URL: key, From: now.UTC(), To: now.UTC(), Rejected: map[string]int{}, Incomplete: []control.Window{}, Gaps: len(spans)}
	for i, span := range spans {
		one, err := d.fetch(ctx, r, state, span, func(events, about int) {
			if progress != nil {
				progress(sum.Fetched+events, sum.Fetched+about)
			}
		})
		add(&sum, one, i == 0)
		if err != nil {
			return sum, err
		}
		if len(one.Incomplete) > 0 {
			continue
		}
		if err := state.Satisfied(key, closed(span, now)); err != nil {
			return sum, fmt.Errorf("note that a gap is closed: %w", err)
		}
	}
	return sum, nil
}

// closed is the part of a span that was fetched of which nothing can come any more: an archive may get events late.
func closed(span datagrepper.Span, now time.Time) datagrepper.Span {
	span.To = min(span.To, now.Add(-datagrepper.Grace).Unix())
	return span
}

// closeGaps forgets the gaps in a span of which everything was fetched.
func (d *Daemon) closeGaps(span datagrepper.Span, began time.Time) error {
	ledger, err := d.ledger()
	if err != nil {
		return err
	}
	span = closed(span, began)
	return ledger.Close(span.From, span.To)
}

// within cuts spans to what a request asks for.
func within(spans []datagrepper.Span, r BackfillRequest) (out []datagrepper.Span) {
	for _, s := range spans {
		if !r.From.IsZero() {
			s.From = max(s.From, r.From.Unix())
		}
		if !r.To.IsZero() {
			s.To = min(s.To, r.To.Add(time.Second-time.Nanosecond).Unix())
		}
		if s.From < s.To {
			out = append(out, s)
		}
	}
	return out
}

// add puts a backfill into the sum of several.
func add(sum *BackfillSummary, one BackfillSummary, first bool) {
	if first {
		sum.From = one.From
	}
	sum.To = one.To
	sum.Fetched += one.Fetched
	sum.Owned += one.Owned
	sum.Duplicates += one.Duplicates
	sum.Expired += one.Expired
	sum.Requests += one.Requests
	sum.Failures += one.Failures
	for reason, n := range one.Rejected {
		sum.Rejected[reason] += n
	}
	sum.Incomplete = append(sum.Incomplete, one.Incomplete...)
}
