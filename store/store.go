// Package store is the contract that every database engine of statscache fulfils: what is kept, and what each call
// promises of it.
//
// Two engines fulfil it, store/sqlite and store/crate, and store/storetest is the suite that holds both to it. The
// contract asks for no transaction across calls: one engine has none. What must be atomic is atomic inside one call,
// and every writing call may be repeated with the same arguments after an error, whatever the error was.
package store

import (
	"context"
	"errors"
	"time"

	"github.com/statscache/statscache/internal/block"
)

// The errors that callers tell apart. Everything else is a failure of this one call.
var (
	// ErrUnavailable: the database is away, locked or full. The same call, repeated, succeeds once it is back.
	ErrUnavailable = errors.New("store unavailable")
	// ErrFenced: another owner has taken the checkpoint or the stream since; this one must stop and write no more.
	ErrFenced = errors.New("taken over by another owner")
	// ErrForeign: the database holds something else than a statscache store.
	ErrForeign = errors.New("not a statscache store")
	// ErrNewer: the store was written by a newer statscache.
	ErrNewer = errors.New("written by a newer statscache")
	// ErrUnknown: no metric, interval, plugin or stream of that name.
	ErrUnknown = errors.New("unknown")
)

// Store is a whole engine.
type Store interface {
	Archive
	Ledger
	Catalog
	Reader
	Upkeep
	Scanner
	Mender
	Summer
	// Kind names the engine: "sqlite" or "crate".
	Kind() string
	// Ping says whether the database answers now.
	Ping(ctx context.Context) error
	// Close ends the use of the database. Calls under way fail or finish; later ones fail.
	Close() error
}

// Stream is one consumer's numbered sequence of events. Its id is random and lives with the consumer's inbox.
type Stream struct {
	ID         string
	ArchivedTo uint64 // every position up to here is durable and readable
	Owned      uint64 // how many events of it the archive was given, what has expired since included
	Retired    bool   // nothing more will come
}

// Archived is what became of one block given to Archive.
type Archived struct {
	// Owned holds the events of the block that are ours: archived by this call or by an earlier one with the same
	// stream and position. It covers the same positions as the block given and may be empty.
	Owned      *block.Block
	Duplicates int // events that were there already, from anywhere
	Expired    int // events older than the archive's horizon: refused
}

// ReadRequest asks for archived events of a stream in the order of their positions.
type ReadRequest struct {
	Stream string
	After  uint64 // the last position already seen
	Events int    // about how many: a block is not cut for it
	Bodies bool
}

// Archive keeps events, each once.
type Archive interface {
	// Attach registers a stream, new or known, and gives its archived_to. The stream is this caller's from now on: on
	// engines that several processes share, an earlier owner is fenced.
	Attach(ctx context.Context, stream string) (archivedTo uint64, err error)
	// Archive inserts every event by its ID if it isn't there yet and moves archived_to to the end of the last block.
	// Blocks are in the order of the stream and go on at archived_to+1 (a gap is an error); positions at or below
	// archived_to are passed over (they are answered as covered, with nothing owned). An event of which a copy exists is a duplicate, whatever
	// the stream or lane of the copy. When it returns without an error, all of it is durable and readable. After an
	// error any part may be durable; the same call again completes it, each event counted as owned once.
	Archive(ctx context.Context, stream string, blocks []*block.Block) ([]Archived, error)
	// Streams lists all streams by id.
	Streams(ctx context.Context) ([]Stream, error)
	// Read gives the owned events of a stream after a position, never beyond archived_to. All there is in
	// (After, upto] is in the blocks; where there is nothing new, upto is After.
	Read(ctx context.Context, r ReadRequest) (blocks []*block.Block, upto uint64, err error)
}

// CheckpointKey names one writer's progress: a plugin's generation over one stream.
type CheckpointKey struct {
	Plugin     string
	Generation uint32
	Stream     string
}

// Ledger keeps numbers together with how far they go.
type Ledger interface {
	// Checkpoint opens the one writer of a key for the metrics that Register named, creating it at position 0. An
	// earlier writer of the key is fenced. What an interrupted commit left is completed before it returns.
	Checkpoint(ctx context.Context, key CheckpointKey) (Checkpoint, error)
	// Positions gives the progress of every stream of a generation.
	Positions(ctx context.Context, plugin string, generation uint32) ([]Position, error)
}

// Position is how far a generation has come in a stream. Numbers of every event up to Pos are complete; of those in
// (Pos, Intent] any part may be there.
type Position struct {
	Stream      string
	Pos, Intent uint64
}

// Checkpoint commits the numbers of one plugin generation over one stream. It is for one goroutine, but Series may be
// called by another one beside Commit.
type Checkpoint interface {
	// Pos is the last position committed.
	Pos() uint64
	// Series gives the number of a series of a metric (see JoinKey): stable while the checkpoint is open, below
	// MaxSeries. Beyond the metric's series limit every new key gets the number of OtherKey.
	Series(metric, key string) (uint32, error)
	// Commit adds the deltas, applies the puts, keeps the dead letters and moves the position to c.To: all of it or
	// nothing, once, however often it is called with the same To. Buckets older than their horizon are left out. The
	// versions of the metrics it changed are raised.
	Commit(ctx context.Context, c *Commit) error
	// Close releases the checkpoint without writing.
	Close() error
}

// Commit is what a range of events, from the checkpoint's position to To, adds up to.
type Commit struct {
	To       uint64
	Counters []CounterDeltas
	Puts     []Put
	Dead     []DeadLetter
}

// CounterDeltas are additions to one metric at one interval, ascending by cell, each cell once.
type CounterDeltas struct {
	Metric   string
	Interval time.Duration // whole seconds
	Cells    []Delta
}

// Delta adds N to a cell.
type Delta struct {
	Cell Cell
	N    int64
}

// SeriesBits is the width of a series number inside a cell.
const SeriesBits = 24

// MaxSeries bounds the series of a metric: numbers are below it.
const MaxSeries = 1 << SeriesBits

// Cell packs a bucket's number (floor(time / interval), negative before 1970) and a series number. Cells order by
// bucket first.
type Cell int64

// MakeCell packs.
func MakeCell(bucket int64, series uint32) Cell { return Cell(bucket<<SeriesBits | int64(series)) }

// Bucket is floor(time / interval).
func (c Cell) Bucket() int64 { return int64(c) >> SeriesBits }

// Series is the number that Checkpoint.Series gave.
func (c Cell) Series() uint32 { return uint32(c) & (MaxSeries - 1) }

// Put proposes a latest value of a key; the newest (Time, ID) wins, in whatever order they come.
type Put struct {
	Metric string
	Key    string // see JoinKey
	Time   int64  // of the event, µs since 1970
	ID     string // of the event
	Value  []byte // JSON
}

// DeadLetter is an event that a plugin could not take.
type DeadLetter struct {
	Seq   uint64
	ID    string
	Error string
	At    time.Time // when it was given up
}
