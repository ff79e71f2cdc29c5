package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/statscache/statscache/consumer/control"
	"github.com/statscache/statscache/consumer/fedmsg"
	"github.com/statscache/statscache/consumer/gaps"
	"github.com/statscache/statscache/consumer/source/datagrepper"
	"github.com/statscache/statscache/store"
)

const (
	// backfillFile keeps, in the data dir, which spans of which archives are done.
	backfillFile = "backfill.json"
	// backfillSource is the source of events that came from an archive.
	backfillSource = "datagrepper"
	// catchUpBefore is how much earlier than the last archived event a catch-up begins: events come late, too.
	catchUpBefore = 10 * time.Minute
	// catchUpAgain is how long a catch-up that failed waits for the next attempt.
	catchUpAgain = 5 * time.Minute
	// profileEvery is how often a backfill's progress is logged, where that is wanted.
	profileEvery = 10 * time.Second
)

// What a backfill is asked for and comes to.
type (
	BackfillRequest = control.BackfillRequest
	BackfillSummary = control.BackfillSummary
)

// Backfill fetches history from an archive that speaks datagrepper's protocol, beside a running daemon or without one,
// with the same result. See Daemon.Backfill.
func Backfill(ctx context.Context, o Options, r BackfillRequest, progress func(events, about int)) (sum BackfillSummary, err error) {
	err = Work(ctx, o, func(ctx context.Context, d *Daemon) (err error) {
		sum, err = d.Backfill(ctx, r, progress)
		return err
	}, func(ctx context.Context, c *control.Client) (err error) {
		sum, err = c.Backfill(ctx, r, progress)
		return err
	})
	return sum, err
}

// Backfill fetches what of a range of time is not known to be here already. What it fetches goes the ordinary way, and
// how far it is stands in the data dir: after an error or a kill the same call goes on. It returns once everything is
// archived and, but with NoWait, counted.
func (d *Daemon) Backfill(ctx context.Context, r BackfillRequest, progress func(events, about int)) (sum BackfillSummary, err error) {
	if !d.roles.Consume {
		return sum, errNoConsume
	}
	if !d.backfilling.TryLock() {
		return sum, errors.New("a backfill is under way already; try again when it has ended")
	}
	defer d.backfilling.Unlock()
	c := d.current.Load()
	if r.URL = cmp.Or(r.URL, c.DatagrepperEndpoint); r.URL == "" {
		return sum, errors.New("there is no archive to ask: give --url or set statscache.datagrepper.endpoint")
	}
	if r.Gaps {
		if sum, err = d.backfillGaps(ctx, r, progress); err != nil || r.NoWait {
			return sum, err
		}
		return sum, d.waitComputed(ctx)
	}
	if r.From.IsZero() {
		r.From = c.Epoch
	}
	if r.From.IsZero() {
		return sum, errors.New("how far back? give --from or set statscache.consumer.epoch")
	}
	if r.To.IsZero() {
		r.To = d.now()
	}
	if !r.From.Before(r.To) {
		return sum, fmt.Errorf("there is nothing between %s and %s", r.From.UTC().Format(time.RFC3339), r.To.UTC().Format(time.RFC3339))
	}
	state, err := datagrepper.OpenState(filepath.Join(c.DataDir, backfillFile))
	if err != nil {
		return sum, err
	}
	span := datagrepper.Span{From: r.From.Unix(), To: r.To.Add(time.Second - time.Nanosecond).Unix()}
	sum, err = d.fetch(ctx, r, state, span, progress)
	if err != nil || r.NoWait {
		return sum, err
	}
	return sum, d.waitComputed(ctx)
}

// fetch brings in what of a span is missing; under backfilling.
func (d *Daemon) fetch(ctx context.Context, r BackfillRequest, state *datagrepper.State, span datagrepper.Span, progress func(events, about int)) (BackfillSummary, error) {
	ctx, cancel := d.alive(ctx)
	defer cancel()
	began := d.now()
	d.fetching(&gaps.Span{From: span.From, To: span.To})
	defer d.fetching(nil)
	sink := &backfillSink{daemon: d, tally: &importTally{}, bad: badLines{rejected: map[string]int{}}}
	logged := began
	tell := func(p datagrepper.Progress) {
		about := p.Events
		if p.Done > 0 {
			about = int(float64(p.Events) / float64(p.Done) * float64(p.Todo))
		}
		if progress != nil {
			progress(p.Events, about)
		}
		if now := d.now(); d.current.Load().DatagrepperProfile && now.Sub(logged) >= profileEvery {
			logged = now
			d.log.Info("backfill", "events", p.Events, "about", about, "per_second", int(float64(p.Events)/now.Sub(began).Seconds()))
		}
	}
	result, err := datagrepper.Fetch(ctx, datagrepper.Options{URL: r.URL, Span: span, State: state, Sink: sink, Rate: r.Rate, Progress: tell,
		HTTP: archiveClient(r.URL), UserAgent: "statscache/" + cmp.Or(d.version, "unknown"), Logger: d.log, Now: d.now})
	sum := BackfillSummary{URL: datagrepper.Key(r.URL), From: time.Unix(span.From, 0).UTC(), To: time.Unix(span.To, 0).UTC(), Fetched: result.Events,
		Requests: result.Requests, Failures: result.Failures, Rejected: sink.bad.counts(), Incomplete: []control.Window{},
		Owned: int(sink.tally.owned.Load()), Duplicates: int(sink.tally.duplicates.Load()), Expired: int(sink.tally.expired.Load())}
	for _, w := range result.Incomplete {
		sum.Incomplete = append(sum.Incomplete, control.Window{From: time.Unix(w.From, 0).UTC(), To: time.Unix(w.To, 0).UTC(), Have: w.Have, Total: w.Total})
	}
	if err == nil && len(result.Incomplete) == 0 {
		err = d.closeGaps(span, began)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return sum, err
}

// archiveClient asks an archive; on this machine nothing is compressed for the way.
func archiveClient(archive string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableCompression: datagrepper.Local(archive), Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout: 15 * time.Second, ForceAttemptHTTP2: true, MaxIdleConns: 2, IdleConnTimeout: 30 * time.Second}}
}

// backfillSink gives what was fetched to ingest, as lines of a file.
type backfillSink struct {
	daemon *Daemon
	tally  *importTally
	bad    badLines
}

// Deliver queues envelopes, when there is room.
func (s *backfillSink) Deliver(ctx context.Context, envelopes [][]byte) error {
	if err := s.daemon.waitRoom(ctx); err != nil {
		return err
	}
	messages := make([][][]byte, len(envelopes))
	for i := range envelopes {
		messages[i] = envelopes[i : i+1 : i+1]
	}
	return s.daemon.ingest.submit(ctx, batch{source: backfillSource, messages: messages, backfill: true, tally: s.tally, received: s.daemon.now().UnixMicro(),
		bad: func(_ int, reason fedmsg.Reason, detail string) { s.bad.line(0, reason, detail) }})
}

// Archived waits until what was queued is archived: then no crash loses it.
func (s *backfillSink) Archived(ctx context.Context) error {
	to, err := s.daemon.ingest.flush(ctx)
	if err != nil {
		return fmt.Errorf("write to the inbox: %w", err)
	}
	return s.daemon.waitArchived(ctx, to)
}

// startCatchUp notes what was missed while no daemon ran, before anything new comes in, and has it fetched in the
// background. What was noted stays noted until it is here, whatever happens meanwhile.
func (d *Daemon) startCatchUp(ctx context.Context) error {
	c := d.config
	if !c.CatchUp || c.DatagrepperEndpoint == "" {
		return nil
	}
	state, err := datagrepper.OpenState(filepath.Join(c.DataDir, backfillFile))
	if err != nil {
		return err
	}
	now := d.now()
	from, err := d.missedFrom(ctx, now)
	if err != nil {
		return err
	}
	key := datagrepper.Key(c.DatagrepperEndpoint)
	if from.IsZero() {
		d.log.Warn("there is nothing to catch up from: the archive is empty and statscache.consumer.epoch says no time")
	} else if err := state.Want(key, datagrepper.Span{From: from.Unix(), To: now.Unix() + 1}); err != nil {
		return err
	}
	d.background("catch-up", func(ctx context.Context) error {
		for {
			if d.catchUp(ctx, key) {
				return nil
			}
			select {
			case <-time.After(catchUpAgain):
			case <-ctx.Done():
				return nil
			}
		}
	})
	return nil
}

// missedFrom is where a catch-up begins: a little before the last archived event, or at the epoch where there is none.
func (d *Daemon) missedFrom(ctx context.Context, now time.Time) (time.Time, error) {
	finder, ok := d.store.(store.Finder)
	if !ok {
		return d.config.Epoch, nil
	}
	p, err := finder.Find(ctx, store.FindRequest{EventFilter: store.EventFilter{From: 0, To: now.UnixMicro()}, Desc: true, Limit: 1})
	if err != nil {
		return time.Time{}, fmt.Errorf("find the last archived event: %w", err)
	}
	if len(p.Events) == 0 {
		return d.config.Epoch, nil
	}
	from := time.UnixMicro(p.Events[0].Time).Add(-catchUpBefore)
	if from.Before(d.config.Epoch) {
		from = d.config.Epoch
	}
	return from, nil
}

// catchUp fetches what is wanted; false where it has to be tried again.
func (d *Daemon) catchUp(ctx context.Context, key string) bool {
	d.backfilling.Lock()
	defer d.backfilling.Unlock()
	state, err := datagrepper.OpenState(filepath.Join(d.config.DataDir, backfillFile))
	if err != nil {
		d.log.Error("catch-up has to wait", "error", err)
		return false
	}
	ok := true
	for _, span := range state.Wanted(key) {
		d.log.Info("catching up", "from", time.Unix(span.From, 0).UTC(), "to", time.Unix(span.To, 0).UTC(), "archive", key)
		sum, err := d.fetch(ctx, BackfillRequest{URL: d.config.DatagrepperEndpoint}, state, span, nil)
		switch {
		case ctx.Err() != nil:
			return true
		case err != nil:
			d.log.Error("catch-up failed; it goes on later", "error", err, "after", catchUpAgain)
			return false
		case len(sum.Incomplete) > 0:
			d.log.Warn("the archive keeps back what it says it has; it is asked again later", "windows", len(sum.Incomplete), "first", sum.Incomplete[0].From, "after", catchUpAgain)
			ok = false
			continue
		}
		if err := state.Satisfied(key, span); err != nil {
			d.log.Error("catch-up can't note that it is done", "error", err)
			return false
		}
		d.log.Info("caught up", "events", sum.Fetched, "new", sum.Owned)
	}
	return ok
}
