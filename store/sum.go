package store

import (
	"context"
	"errors"
	"time"
)

// ErrTooCostly is what Sums answers when the question would take more than its bounds. The caller says which bound
// and how to ask instead.
var ErrTooCostly = errors.New("the question is too costly")

// Match is a condition on one dimension of a series. Exactly one of In and Prefix is used: In where it isn't nil.
type Match struct {
	Dim    int      // index in the metric's dimensions
	Not    bool     // the condition must not hold
	In     []string // the value is one of these
	Prefix string   // the value begins with this (code points, case kept)
}

// SumQuery asks for counts of a metric's serving generation at one of its intervals, added up.
type SumQuery struct {
	Metric   string
	Interval time.Duration
	From, To int64   // buckets that start in [From, To), seconds since 1970
	Where    []Match // all must hold
	By       []int   // dimensions to keep apart, indexes in the metric's dimensions; none adds all series up

	// Step adds buckets up to steps of so many seconds that start at Origin + n*Step; 0 makes one sum of the whole
	// window. A step is a multiple of the interval and Origin falls on a bucket's start.
	Step, Origin int64

	// Top keeps only the groups with the largest sums over the whole window, largest first, equal ones by value in
	// code-point order; 0 keeps all. It is for questions with Step 0.
	Top int

	// What the question may cost: sums in the answer (after Top), and counts read or series looked at for it. 0 is no bound.
	MaxSums, MaxScan int
}

// Sum is one number of the answer.
type Sum struct {
	Time   int64    // start of the step, seconds since 1970; From where Step is 0
	Values []string // of the dimensions in By, in that order
	N      int64
}

// Summer adds counts up. All intervals of a metric count the same events: an engine may take what one bucket of a long
// interval holds for what the buckets of a shorter one within it hold, where none of them is behind its horizon.
type Summer interface {
	// Sums answers a question by time, then values in code-point order; with Top by number. A step or group without a
	// count is left out. Buckets behind the horizon are not there. ErrUnknown: no such metric, interval or
	// dimension. ErrTooCostly: beyond MaxSums or MaxScan; it is found out before or while reading, never after
	// holding more than the bounds allow.
	Sums(ctx context.Context, q SumQuery) ([]Sum, error)
}
