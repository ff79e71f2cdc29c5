package host

import (
	"context"
	"errors"
	"time"

	"github.com/statscache/statscache/store"
)

const (
	// maxCommitWait is how far the time between two commits stretches under load.
	maxCommitWait = time.Second
	// historyWait is how far it stretches while history comes in, of which more is to come: days of it are then added up
	// before they are written, and rows that every day touches are written once for all of them. It is no longer because
	// nothing is archived while a commit is written.
	historyWait = 2 * time.Second
	// commitShare is how much longer than a commit the time to the next one is: commits then take a fifth of the time
	// at most, and larger ones are cheaper per event.
	commitShare = 4
)

// commits commits what is answered, every CommitInterval where there is something, until ctx ends; then once more, as
// far as that goes quickly.
func (l *lane) commits(ctx context.Context) {
	defer close(l.done)
	defer func() { _ = l.checkpoint.Close() }()
	var s sorter
	wait, last := l.host.Limits.CommitInterval, time.Time{}
	for {
		if !l.await(ctx, last, wait) || !l.runner.unheld(ctx) {
			l.lastCommit(ctx, &s)
			return
		}
		start := time.Now()
		if err := l.commitThrough(ctx, &s); err != nil {
			if ctx.Err() == nil {
				l.fail(err)
			}
			return
		}
		last = time.Now()
		took := last.Sub(start)
		wait = min(max(l.host.Limits.CommitInterval, commitShare*took), max(maxCommitWait, l.host.Limits.CommitInterval))
	}
}

// await waits until it is time to commit: wait after the last one where there are numbers, longer where nothing but the
// position has moved. It is false where ctx ended.
func (l *lane) await(ctx context.Context, last time.Time, wait time.Duration) bool {
	select {
	case <-l.changed:
	case <-l.moved:
		unhurried := time.NewTimer(maxCommitWait - time.Since(last))
		defer unhurried.Stop()
		select {
		case <-l.changed:
		case <-unhurried.C:
			return true
		case <-ctx.Done():
			return false
		}
	case <-ctx.Done():
		return false
	}
	for pause := wait - time.Since(last); ; pause = l.host.Limits.CommitInterval {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-l.full:
			timer.Stop()
			return true
		case <-ctx.Done():
			timer.Stop()
			return false
		}
		if time.Since(last) >= historyWait || !l.moreHistory() {
			return true
		}
	}
}

// moreHistory says whether all that waits to be committed is history, and more is archived already.
func (l *lane) moreHistory() bool {
	end := l.runner.end(l.stream)
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.acc.live && l.acked < end
}

// commit takes what is answered and commits it, waiting for the store as long as that takes.
func (l *lane) commit(ctx context.Context, s *sorter) error {
	l.mu.Lock()
	to := l.acked
	if to == l.checkpoint.Pos() || !l.doubt.IsZero() && time.Now().Before(l.doubt) && !l.runner.isTrusted() {
		l.mu.Unlock()
		return nil
	}
	believed := l.doubtful
	l.doubtful, l.doubt = 0, time.Time{}
	acc := l.acc
	l.acc = acc.next()
	close(l.room)
	l.room = make(chan struct{})
	l.mu.Unlock()
	l.runner.buried(believed)
	c := acc.commit(to, s)
	err := l.runner.persist(ctx, func() error {
		start := time.Now()
		err := l.checkpoint.Commit(ctx, c)
		l.host.committed(time.Since(start), err)
		return err
	})
	if err != nil {
		return err
	}
	l.runner.overflow(l.def, acc.other)
	l.runner.advance(l.stream, to)
	return nil
}

// commitThrough is commit that goes on for as long as a last commit may take when ctx ends: what it has taken would have
// to be computed again.
func (l *lane) commitThrough(ctx context.Context, s *sorter) error {
	patient, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		sleep(patient, l.host.Limits.Stop)
		cancel()
	})()
	return l.commit(patient, s)
}

// fail notes that commits are at an end: what is answered but not committed must be computed again, for its series
// numbers may mean something else by now.
func (l *lane) fail(err error) {
	l.mu.Lock()
	l.err = &laneFailure{err}
	l.mu.Unlock()
	if errors.Is(err, store.ErrFenced) && !l.runner.shared() {
		l.runner.abort(err) // among processes it is how a stream changes hands: the survey sees to it
	}
}

// failed gives the error that ended the commits.
func (l *lane) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// laneFailure is an error of the store that waiting does not mend.
type laneFailure struct{ err error }

func (f *laneFailure) Error() string { return f.err.Error() }
func (f *laneFailure) Unwrap() error { return f.err }

// lastCommit saves having the answered part computed again by the next host. That it may fail loses nothing.
func (l *lane) lastCommit(ctx context.Context, s *sorter) {
	if errors.Is(context.Cause(ctx), store.ErrFenced) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.host.Limits.Stop)
	defer cancel()
	_ = l.commit(ctx, s)
}

// signal wakes whoever waits on c, now or next time.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
