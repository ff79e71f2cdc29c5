package consumer

import (
	"context"
	"testing"

	"github.com/statscache/statscache/store"
)

// burying is a store that buries one more event before each read of its dead letters, in front of all others.
type burying struct {
	store.Reader
	list []store.StreamDeadLetter
	next uint64
}

func (b *burying) bury() {
	b.next--
	b.list = append([]store.StreamDeadLetter{{Stream: "s", DeadLetter: store.DeadLetter{Seq: b.next}}}, b.list...)
}

func (b *burying) DeadLetters(_ context.Context, _ string, limit int) ([]store.StreamDeadLetter, int, error) {
	b.bury()
	return b.list[:min(limit, len(b.list))], len(b.list), nil
}

// buryingRequeuer is one that lists them by place.
type buryingRequeuer struct{ burying }

func (b *buryingRequeuer) Buried(_ context.Context, _ string, _ uint32, _ store.Place, limit int) ([]store.StreamDeadLetter, int, error) {
	b.bury()
	b.bury()
	return b.list[:min(limit, len(b.list))], len(b.list), nil
}

func TestDeadLetters_ThoseThatWereThere_AreNotPushedOutByNewOnes(t *testing.T) {
	for _, n := range []int{1, lettersAtOnce - 1, lettersAtOnce, 5 * lettersAtOnce} {
		first := burying{next: 1 << 40}
		for range n {
			first.bury()
		}
		there := first.list
		for name, s := range map[string]store.Reader{"newest first": &burying{list: there, next: first.next}, "by place": &buryingRequeuer{burying{list: there, next: first.next}}} {
			got, err := deadLetters(t.Context(), s, "p", 1)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range there {
				if !got[letter{l.Stream, l.Seq}] {
					t.Fatalf("%s, %d dead letters: %d is missing among the %d found", name, n, l.Seq, len(got))
				}
			}
		}
	}
}
