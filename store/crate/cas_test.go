package crate

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/store"
)

var errLost = errors.New("connection lost")

// fakeRow is a row on a server that plays along with the fault of a case: before each set fault is asked what becomes
// of it.
type fakeRow struct {
	row    streamRow
	at     version
	exists bool
	sets   int
	late   []func() // statements that the server has not executed yet
	fault  func(n int) fault
	show   func() *held[streamRow] // a dirty read, where not nil
}

type fault int

const (
	none    fault = iota
	lost          // executed, the answer is lost
	delayed       // not executed yet, no answer
	dropped       // never executed, no answer
)

func (f *fakeRow) apply(at version, row streamRow) bool {
	if !f.exists || at != f.at {
		return false
	}
	f.row = row
	f.at.seqNo++
	return true
}

func (f *fakeRow) change(at version, row streamRow) (version, error) {
	f.sets++
	switch f.fault(f.sets) {
	case lost:
		f.apply(at, row)
		return version{}, errLost
	case delayed:
		f.late = append(f.late, func() { f.apply(at, row) })
		return version{}, errLost
	case dropped:
		return version{}, errLost
	}
	if !f.apply(at, row) {
		return version{}, pgx.ErrNoRows
	}
	return f.at, nil
}

func (f *fakeRow) guard() guard[streamRow] {
	return guard[streamRow]{name: "row",
		read: func(context.Context) (held[streamRow], error) {
			if f.show != nil {
				if h := f.show(); h != nil {
					return *h, nil
				}
			}
			if !f.exists {
				return held[streamRow]{}, pgx.ErrNoRows
			}
			return held[streamRow]{f.row, f.at}, nil
		},
		create: func(context.Context) error {
			f.exists = true
			return nil
		},
		take: func(_ context.Context, at version, epoch int64) (held[streamRow], error) {
			row := f.row
			row.epoch = epoch
			v, err := f.change(at, row)
			return held[streamRow]{row, v}, err
		},
		set: func(_ context.Context, at version, row streamRow) (version, error) { return f.change(at, row) },
	}
}

func fakeDB() *DB {
	return &DB{log: slog.New(slog.DiscardHandler), deadline: func() time.Duration { return time.Second }}
}

func faults(list ...fault) func(int) fault {
	return func(n int) fault {
		if n <= len(list) {
			return list[n-1]
		}
		return none
	}
}

func TestWrite_WithoutAnswer_EndsAcknowledged(t *testing.T) {
	for name, list := range map[string][]fault{
		"answered":                   {},
		"answer lost":                {lost},
		"answer lost twice":          {lost, lost},
		"never executed":             {dropped},
		"lost, then never executed":  {lost, dropped},
		"never executed, then lost":  {dropped, lost, lost},
		"delayed for ever":           {delayed, delayed},
		"delayed among lost answers": {delayed, lost, delayed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeRow{exists: true, row: streamRow{archivedTo: 5, epoch: 2}, fault: faults(list...)}
				next := streamRow{archivedTo: 9, epoch: 2}
				h, err := write(t.Context(), fakeDB(), f.guard(), held[streamRow]{f.row, f.at}, next)
				if err != nil || h.row != next || h.at != f.at || f.row != next {
					t.Fatalf("%+v, %v; the row is %+v at %+v", h, err, f.row, f.at)
				}
				if f.sets <= len(list) {
					t.Errorf("%d writes, %d without an answer: the last one was not acknowledged", f.sets, len(list))
				}
				at := f.at
				for _, late := range f.late {
					late()
				}
				if f.at != at {
					t.Error("a late statement changed the row")
				}
			})
		})
	}
}

// A read that shows the new values is no proof: the copy that showed them can be lost. Only another write is.
func TestWrite_DirtyRead_IsNotTakenForDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := streamRow{archivedTo: 9, epoch: 2}
		f := &fakeRow{exists: true, row: streamRow{archivedTo: 5, epoch: 2}, fault: faults(dropped)}
		shown := 0
		f.show = func() *held[streamRow] {
			if shown++; shown == 1 {
				return &held[streamRow]{next, version{99, 1}}
			}
			return nil
		}
		h, err := write(t.Context(), fakeDB(), f.guard(), held[streamRow]{f.row, f.at}, next)
		if err != nil || f.row != next || h.at != f.at {
			t.Fatalf("%+v, %v; the row is %+v", h, err, f.row)
		}
	})
}

func TestWrite_AnotherOwner_IsFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeRow{exists: true, row: streamRow{archivedTo: 5, epoch: 2}, fault: faults(delayed)}
		old := held[streamRow]{f.row, f.at}
		second, err := acquire(t.Context(), fakeDB(), f.guard(), nil)
		if err != nil || second.row.epoch < 3 {
			t.Fatalf("%+v, %v", second, err)
		}
		if _, err := write(t.Context(), fakeDB(), f.guard(), old, streamRow{archivedTo: 9, epoch: 2}); !errors.Is(err, store.ErrFenced) {
			t.Fatalf("%v, want ErrFenced", err)
		}
		for _, late := range f.late {
			late()
		}
		if f.row != second.row {
			t.Fatalf("the row is %+v, the second owner's %+v", f.row, second.row)
		}
	})
}

func TestAcquire_WithoutAnswer_EndsWithAnEpochOfItsOwn(t *testing.T) {
	for name, list := range map[string][]fault{"answered": {}, "lost": {lost}, "dropped": {dropped}, "delayed": {delayed, lost, delayed}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeRow{fault: faults(list...)}
				h, err := acquire(t.Context(), fakeDB(), f.guard(), nil)
				if err != nil || h.row != f.row || h.at != f.at || h.row.epoch == 0 {
					t.Fatalf("%+v, %v; the row is %+v", h, err, f.row)
				}
				for _, late := range f.late {
					late()
				}
				if h.row != f.row {
					t.Error("a late statement took the row")
				}
			})
		})
	}
}

func TestWrite_ContextEnds_IsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeRow{exists: true, row: streamRow{epoch: 1}, fault: func(int) fault { return dropped }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		old := held[streamRow]{f.row, f.at}
		if _, err := write(ctx, fakeDB(), f.guard(), old, streamRow{archivedTo: 1, epoch: 1}); !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("%v, want ErrUnavailable", err)
		}
		f.fault = faults()
		if h, err := write(t.Context(), fakeDB(), f.guard(), old, streamRow{archivedTo: 1, epoch: 1}); err != nil || h.row.archivedTo != 1 {
			t.Fatalf("repeated: %+v, %v", h, err)
		}
	})
}
