package store

import (
	"context"
	"encoding/json"
	"time"
)

// RowQuery asks for counts of a metric's serving generation.
type RowQuery struct {
	Metric   string
	Interval time.Duration
	From, To int64 // buckets that start in [From, To), seconds since 1970
	Desc     bool  // newest bucket first; the rows of one bucket are by key in code-point order either way
	Offset   int
	Limit    int // at most so many rows; 0 for none, only the total
}

// Row is one count.
type Row struct {
	Time int64 // start of the bucket, seconds since 1970
	Key  string
	N    int64
}

// LatestRow is the newest value of a key.
type LatestRow struct {
	Key   string
	Time  int64 // µs since 1970
	ID    string
	Value json.RawMessage
}

// CellQuery names the cells of one metric, generation and interval, for recounts.
type CellQuery struct {
	Plugin     string
	Metric     string
	Generation uint32
	Interval   time.Duration
	From, To   int64 // buckets that start in [From, To), seconds since 1970
}

// Reader answers questions about numbers. Rows sees whole commits only. The other calls see all of every commit up to
// the settled position, and on an engine without transactions any part of one that is under way: see Positions.
type Reader interface {
	// Rows gives rows in order and how many match without Offset and Limit. ErrUnknown: no such metric or interval.
	Rows(ctx context.Context, q RowQuery) (rows []Row, total int, err error)
	// Latest gives the latest values of a metric, by key.
	Latest(ctx context.Context, metric string) ([]LatestRow, error)
	// Span gives the starts of the first and the last bucket of a metric at an interval (seconds since 1970); ok is
	// false where there is none.
	Span(ctx context.Context, metric string, interval time.Duration) (first, last int64, ok bool, err error)
	// EachCell calls f for every row of a generation, in no particular order, until f fails.
	EachCell(ctx context.Context, q CellQuery, f func(Row) error) error
	// EachLatest calls f for every latest value of a generation's metric, until f fails.
	EachLatest(ctx context.Context, plugin, metric string, generation uint32, f func(LatestRow) error) error
	// DeadLetters lists a plugin's dead letters, newest first, at most limit, and how many there are.
	DeadLetters(ctx context.Context, plugin string, limit int) (list []StreamDeadLetter, total int, err error)
}

// StreamDeadLetter is a dead letter with the stream it stands in.
type StreamDeadLetter struct {
	Stream string
	DeadLetter
}

// Horizon says that buckets of a metric at an interval that start before Before (seconds since 1970) are gone.
type Horizon struct {
	Metric   string
	Interval time.Duration
	Before   int64
}

// Horizons is what retention has removed so far.
type Horizons struct {
	Archive  int64 // events before it (µs since 1970) are gone and refused; math.MinInt64 where nothing is
	Counters []Horizon
}

// Upkeep removes what retention no longer keeps. Horizons only move forward: removed ground can't be counted again.
type Upkeep interface {
	// Horizons gives all of them.
	Horizons(ctx context.Context) (Horizons, error)
	// ExpireCounters records the horizons, then removes the rows behind them, of all generations. A horizon that lies
	// before the recorded one changes nothing.
	ExpireCounters(ctx context.Context, h []Horizon) (rows int64, err error)
	// ExpireArchive records the archive's horizon (µs since 1970) and removes what lies wholly behind it.
	ExpireArchive(ctx context.Context, before int64) (events int64, err error)
}
