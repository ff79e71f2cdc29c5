package store

import "context"

// LetterExpirer is what an engine also is that can let go of dead letters whose events it has removed.
type LetterExpirer interface {
	// ExpireLetters removes the dead letters of events that the archive has no more: nothing can take them back.
	// It gives how many, by plugin and generation. After an error some of them may be gone.
	ExpireLetters(ctx context.Context) (gone map[LettersOf]int, err error)
}

// LettersOf names the dead letters of one generation.
type LettersOf struct {
	Plugin     string
	Generation uint32
}
