package store

import "context"

// Loose is the name under which numbers stand that belong to no stream: what repairs and migrations add. No inbox has it.
const Loose = "(repair)"

// Serving is a plugin as its serving generation was registered.
type Serving struct {
	Plugin
	Generation uint32
}

// Carriage is a migration into a store.
type Carriage struct {
	From string // what was migrated, without secrets
	Done bool   // all of it is here; until then nobody may count or archive here
}

// Carrier is what an engine also is whose contents can be brought into another one. What is brought in is written with
// Archive and with the Commits of checkpoints: those of the streams say how far counting has come, the one of Loose adds
// the numbers themselves. Positions leaves that one out.
type Carrier interface {
	// Serving gives all plugins that serve numbers, by id. Repairs of them that were broken off are complete then.
	Serving(ctx context.Context) ([]Serving, error)
	// Letters lists the dead letters of one generation, ascending by place, from behind a place on (the zero one: from the
	// start), at most limit.
	Letters(ctx context.Context, plugin string, generation uint32, after Place, limit int) ([]StreamDeadLetter, error)
	// Carriages lists the migrations into this store that were begun and not forgotten.
	Carriages(ctx context.Context) ([]Carriage, error)
	// NoteCarriage notes how far a migration is.
	NoteCarriage(ctx context.Context, c Carriage) error
	// ForgetCarriages ends all notes: from then on the store goes its own way.
	ForgetCarriages(ctx context.Context) error
	// AdoptOwned sets how many events an attached stream has owned, expired ones included.
	AdoptOwned(ctx context.Context, stream string, owned uint64) error
}
