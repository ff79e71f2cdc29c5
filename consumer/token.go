package consumer

import (
	"context"
	"fmt"
)

// token is a lock whose wait ends with a context: a command whose client has left must not be done later.
type token chan struct{}

func newToken() token { return make(token, 1) }

// lock takes the token once whoever has it gives it back.
func (t token) lock(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("another command is under way: %w", context.Cause(ctx))
	}
}

// tryLock takes the token where nobody has it.
func (t token) tryLock() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}

func (t token) unlock() { <-t }
