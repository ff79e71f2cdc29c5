package host

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestRecord_SaysWhenAPluginIsGivenUp(t *testing.T) {
	const deadline = 10 * time.Second
	killed := errors.New("killed")
	life := func(ready time.Duration, e ending) ending {
		e.lasted, e.ready, e.deadline, e.err = ready+100*time.Millisecond, ready, deadline, killed
		return e
	}
	hang := life(deadline, ending{blamed: true})
	for _, c := range []struct {
		name  string
		lives func(i int) (ending, bool)
		n     int // given up after so many; 0 for never
		why   string
	}{
		{"killed every half minute with nothing to do", func(int) (ending, bool) { return life(30*time.Second, ending{}), false }, 0, ""},
		{"killed again and again right after it was ready", func(int) (ending, bool) { return life(time.Second, ending{}), false }, 8, "repeated"},
		{"slow to start, which is no life", func(int) (ending, bool) { e := life(0, ending{}); e.lasted = time.Hour; return e, false }, 8, "repeated"},
		{"one good life in eight", func(i int) (ending, bool) {
			if i%8 == 7 {
				return life(time.Minute, ending{}), false
			}
			return life(0, ending{}), false
		}, 0, ""},
		{"the store fails", func(int) (ending, bool) { return life(0, ending{innocent: true}), false }, 0, ""},
		{"hangs at every batch", func(int) (ending, bool) { return hang, false }, 18, "no batch was answered in 3m0s"},
		{"hangs at the first event of every batch, then answers", func(i int) (ending, bool) {
			if i%13 == 12 {
				return life(time.Second, ending{answered: true, blamed: true}), false
			}
			return hang, i%13 == 11
		}, 0, ""},
		{"dies of every event", func(i int) (ending, bool) { return life(time.Millisecond, ending{blamed: true}), i%2 == 1 }, 20, "repeated"},
		{"two bad events a day", func(i int) (ending, bool) {
			if i%2 == 0 {
				return life(12*time.Hour, ending{blamed: true}), false
			}
			return life(time.Millisecond, ending{blamed: true}), true
		}, 17, "no batch was answered"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := record{limits: Limits{Stable: defaultStable, StartFailures: 8}}
			for i := range 1000 {
				if err := r.after(c.lives(i)); err != nil {
					if i+1 != c.n || !strings.Contains(err.Error(), c.why) || !errors.Is(err, killed) {
						t.Errorf("given up after %d lives: %v; want %d: %s", i+1, err, c.n, c.why)
					}
					return
				}
			}
			if c.n > 0 {
				t.Errorf("never given up, want after %d lives", c.n)
			}
		})
	}
}
