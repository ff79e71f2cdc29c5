package store

import "context"

// Lease is a row that says who does a piece of work. Its holder raises the beat again and again; whoever watches takes
// a lease whose beat stands still for long enough on its own clock. It makes for liveness only: what keeps numbers right
// are the epochs of checkpoints and streams.
type Lease struct {
	Name  string
	Owner string // a process; empty where nobody holds it
	Beat  uint64 // raised by every change, from 1 on
	Info  string // what the owner tells of itself, at most MaxLeaseInfo bytes
}

// MaxLeaseInfo bounds what a lease carries.
const MaxLeaseInfo = 64 << 10

// Leases are kept by engines that several processes share.
type Leases interface {
	// ListLeases gives the leases whose names begin with a prefix, by name, as they are now.
	ListLeases(ctx context.Context, prefix string) ([]Lease, error)
	// SwapLease writes owner and info of a lease whose beat is l.Beat still (0: there is none of that name yet) and gives
	// it with the beat raised. ErrFenced: it has changed meanwhile.
	SwapLease(ctx context.Context, l Lease) (Lease, error)
	// DropLease removes a lease whose beat is l.Beat still. ErrFenced: it has changed meanwhile.
	DropLease(ctx context.Context, l Lease) error
	// Retire ends a stream whose owner is gone: what is archived of it stays, nothing more will come. An owner that lives
	// nevertheless is fenced. It gives archived_to; repeated it changes nothing.
	Retire(ctx context.Context, stream string) (archivedTo uint64, err error)
	// GenerationsOf gives the numbers of a plugin's generations that have a fingerprint, 0 for one that has another.
	GenerationsOf(ctx context.Context, plugin, fingerprint string) (Generations, error)
}

// Ailment is something that a database says is wrong with it.
type Ailment struct {
	What     string // a table, or the check that failed
	Severity string // red: numbers or events can't be read or written; yellow: a further failure would do that
	Why      string
	Do       string // what mends it
}
