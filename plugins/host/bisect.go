package host

import "github.com/statscache/statscache/internal/block"

const (
	// maxStrikes is how often an event may be alone in a batch that a plugin dies of.
	maxStrikes = 2
	// regrow is after how many answers in a row the batches double again.
	regrow = 8
)

// bisect finds the event that a plugin dies of: the batch that was blamed is sent again in halves, one at a time, down
// to one event. Afterwards batches grow again slowly: where they were only too large for the deadline, that keeps them
// near the size that works. It survives the plugin's processes, not the host.
type bisect struct {
	size    int    // of batches
	upto    uint64 // the range under suspicion ends here; 0 for none
	good    int    // answers since the size last changed
	next    bool   // an event was given up and nothing answered since: the next one may be such a one, too
	strikes map[uint64]int
}

func newBisect() *bisect { return &bisect{size: block.MaxEvents, strikes: map[uint64]int{}} }

// suspicious says whether batches must go one at a time.
func (s *bisect) suspicious() bool { return s.upto != 0 }

// blame notes that the plugin died of a batch and says whether its one event is to be given up.
func (s *bisect) blame(b *batch) (poison bool) {
	s.upto, s.good = max(s.upto, b.upto), 0
	if b.len() > 1 {
		s.size = b.len() / 2
		return false
	}
	s.size = 1
	seq := b.seq(0)
	s.strikes[seq]++
	if s.strikes[seq] < maxStrikes {
		return false
	}
	*s = *newBisect()
	s.size, s.next = 1, true
	return true
}

// answered notes that a batch was answered.
func (s *bisect) answered(b *batch) {
	if s.next && b.len() > 0 {
		s.size, s.next = block.MaxEvents, false
	}
	if b.upto >= s.upto && s.upto != 0 {
		s.upto = 0
		clear(s.strikes)
	}
	if b.len() == 0 || s.size == block.MaxEvents || s.suspicious() {
		return
	}
	if s.good++; s.good >= regrow {
		s.size, s.good = min(2*s.size, block.MaxEvents), 0
	}
}
