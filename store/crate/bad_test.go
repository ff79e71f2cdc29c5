package crate

import (
	"context"
	"strings"
	"testing"
	"time"
)

// A row that the server will never take, by itself, must not stop its plugin for good: the others are written, and it
// is kept as a dead letter.
func TestCommit_RowThatIsRefused_IsADeadLetter(t *testing.T) {
	d := emptied(t)(t)
	_, key := lateCheckpoint(t, d)
	p := &plan{Version: planVersion, To: 5, Counters: []countPlan{{Metric: "n", Gran: 1, Dimensions: 1, Buckets: []int64{1, 2, 3, 4},
		Keys: []string{"a", "b", strings.Repeat("long", 10_000), "c"}, N: []int64{1, 1, 1, 1}}}}
	ctx, cancel := context.WithTimeout(testContext(t), 30*time.Second)
	defer cancel()
	if err := d.send(ctx, key, p); err != nil {
		t.Fatal(err)
	}
	if got, want := state(t, d), "[{1 a 1} {2 b 1} {4 c 1}] 1"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	list, _, err := d.DeadLetters(ctx, "p", 5)
	if err != nil || len(list) != 1 || list[0].Seq != 5 || !strings.Contains(list[0].Error, "n 1 1 3 longlong") {
		t.Errorf("%+v, %v; want one that names the row", list, err)
	}
}
