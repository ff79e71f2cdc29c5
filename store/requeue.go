package store

import (
	"context"
	"fmt"
	"time"
)

// Place is where an event stands. Places order by stream, then by position.
type Place struct {
	Stream string
	Seq    uint64
}

// Requeuer is what an engine also is that can take dead letters back.
type Requeuer interface {
	// Buried lists the dead letters of one generation, ascending by place, from behind a place on (the zero one: from
	// the start), at most limit, and how many there are at any place.
	Buried(ctx context.Context, plugin string, generation uint32, after Place, limit int) (list []StreamDeadLetter, total int, err error)
}

// Reviver is what a Requeuer's checkpoints also are.
type Reviver interface {
	// Revive counts events that were dead letters of this checkpoint's generation and stream: it removes r.Taken, adds
	// the deltas, applies the puts and keeps r.Dead, all of it or nothing. The position stays where it is; buckets
	// older than their horizon are left out, and versions are raised, as by Commit.
	//
	// The dead letters are what makes it happen once: a call that finds none of r.Taken as they were given (by Seq and
	// At) was done before and changes nothing. ErrMoved: some of them are there and some are not; nothing was changed.
	Revive(ctx context.Context, r *Revival) error
}

// Revival is what events that were dead letters add up to.
type Revival struct {
	Taken    []DeadLetter // as Buried gave them, each once; not empty
	Counters []CounterDeltas
	Puts     []Put
	// Dead are those of Taken that could not be taken this time either. Their At is another one than before.
	Dead []DeadLetter
}

// Check refuses a revival that cannot be meant: one whose repetition would not be known for one.
func (r *Revival) Check() error {
	if len(r.Taken) == 0 {
		return fmt.Errorf("no dead letters are taken")
	}
	taken := make(map[uint64]time.Time, len(r.Taken))
	for _, d := range r.Taken {
		if _, twice := taken[d.Seq]; twice {
			return fmt.Errorf("the dead letter at position %d is taken twice", d.Seq)
		}
		taken[d.Seq] = d.At
	}
	for _, d := range r.Dead {
		at, ok := taken[d.Seq]
		if !ok {
			return fmt.Errorf("position %d is dead again, but was not taken or is given twice", d.Seq)
		}
		if at.UnixMicro() == d.At.UnixMicro() {
			return fmt.Errorf("the dead letter at position %d has the time of the one before", d.Seq)
		}
		delete(taken, d.Seq)
	}
	return nil
}
