package host

import (
	"fmt"
	"time"
)

// muteDeadlines is how many deadlines a plugin may let pass without an answer to anything: finding one event takes
// twelve, and each further one in a row two.
const muteDeadlines = 18

// muteBound is for how long a plugin may fail over batches without an answer to any before it is stopped.
func (l Limits) muteBound(deadline time.Duration) time.Duration {
	if l.Mute > 0 {
		return l.Mute
	}
	return max(defaultMute, muteDeadlines*deadline)
}

// record is how a plugin's lives went, as far as that decides whether it is given another one.
type record struct {
	limits   Limits
	failures int           // in a row without a batch to blame
	poison   int           // events in a row that were given up
	muted    time.Duration // spent in lives that failed over a batch, since the last answer
}

// ending is how a life ended.
type ending struct {
	lasted   time.Duration
	ready    time.Duration // of that, ready for batches
	deadline time.Duration // for a batch; 0 where the plugin has not said what it is
	answered bool          // any batch
	blamed   bool          // it failed over a batch
	innocent bool          // what ended it was none of the plugin's
	err      error
}

// stable says whether a life makes up for earlier failures.
func (c *record) stable(e ending) bool { return e.ready >= c.limits.Stable }

// after takes note of a life and says why there should be no other, where that is so. buried says that an event was
// given up over it.
func (c *record) after(e ending, buried bool) error {
	if e.answered {
		c.poison, c.muted = 0, 0
	}
	switch {
	case e.blamed:
		c.failures = 0
		if buried {
			c.poison++
		}
		if !e.answered {
			c.muted += min(e.lasted, 2*e.deadline) // it may have had nothing to do for long
		}
		if bound := c.limits.muteBound(e.deadline); c.muted >= bound {
			return fmt.Errorf("given up: no batch was answered in %v: %w", bound, e.err)
		}
	case e.answered || e.innocent || c.stable(e):
		c.failures = 0
	default:
		c.failures++
	}
	if c.failures >= c.limits.StartFailures || c.poison >= maxPoison {
		return fmt.Errorf("given up after repeated failures: %w", e.err)
	}
	return nil
}
