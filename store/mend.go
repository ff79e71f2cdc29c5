package store

import (
	"context"
	"errors"
	"time"

	"github.com/statscache/statscache/internal/block"
)

// ErrMoved is what Repair answers when the numbers have gone on since the recount.
var ErrMoved = errors.New("the numbers have gone on meanwhile")

// ScanRequest asks for archived events by their time.
type ScanRequest struct {
	From, To int64 // µs since 1970: events in [From, To)
	Bodies   bool
}

// Scanner finds archived events by their time.
type Scanner interface {
	// Scan calls f for blocks that hold owned events in [From, To) and nothing else, of every stream, in no particular
	// order, until f fails. It sees the archive of one moment and each event once, so f should not take long.
	Scan(ctx context.Context, r ScanRequest, f func(stream string, b *block.Block) error) error
}

// CellFix is what a count should be.
type CellFix struct {
	Metric   string
	Interval time.Duration
	Time     int64 // start of the bucket, seconds since 1970
	Key      string
	N        int64 // 0 removes the row
}

// LatestFix is what a latest value should be.
type LatestFix struct {
	Metric string
	Row    LatestRow // without a Value: Key has none
}

// Repair is what a recount found wrong in a generation's numbers.
type Repair struct {
	Plugin     string
	Generation uint32
	At         []Position // where the generation stood when its numbers were read, all streams
	Cells      []CellFix
	Latest     []LatestFix
}

// Twins is what an engine also is that keeps some counts in two orders.
type Twins interface {
	// EachTwin calls f for every count of a generation that the two orders have differently, in no particular order,
	// until f fails: r as EachCell has it, and what the other order says; 0 for none.
	EachTwin(ctx context.Context, q CellQuery, f func(r Row, twin int64) error) error
}

// Mender puts numbers right.
type Mender interface {
	// Repair makes numbers what they should be, all of them or none. ErrMoved: the generation stands elsewhere than At
	// says, nothing was changed. Buckets older than their horizon are left out. The versions of the metrics that it
	// changed are raised.
	Repair(ctx context.Context, r Repair) error
	// Rebuild begins a new generation of a plugin beside the serving one, as if the plugin had changed; one that is
	// being built is given up for it. Register goes on with it as long as the plugin stays what it is.
	Rebuild(ctx context.Context, plugin string) (Generations, error)
}
