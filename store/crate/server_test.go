package crate

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestServer_BatchOfSeveralPartitions_MixesAnswers shows why a batch is of one partition. A version of CrateDB on which
// it reports "in order" would not need that rule.
func TestServer_BatchOfSeveralPartitions_MixesAnswers(t *testing.T) {
	d := fresh(t)(t)
	ctx := testContext(t)
	send := func(name string, part func(i int) int32) (mixed int) {
		b := &pgx.Batch{}
		for i := range 40 {
			e := event{part: part(i), id: fmt.Sprint(name, i%20), seq: int64(i), users: []string{}, packages: []string{}}
			b.Queue(insertEvent, e.args("s")...)
		}
		r := d.pool.SendBatch(ctx, b)
		defer func() { _ = r.Close() }()
		for i := range 40 {
			tag, err := r.Exec()
			if err != nil {
				t.Fatal(err)
			}
			if want := 1 - i/20; tagCount(tag) != want { // the second twenty are copies of the first
				mixed++
			}
		}
		return mixed
	}
	if n := send("new", func(int) int32 { return 201801 }); n != 0 {
		t.Errorf("a batch that makes its one partition: %d of 40 answers are another item's", n)
	}
	if n := send("old", func(int) int32 { return 201801 }); n != 0 {
		t.Errorf("a batch of one partition: %d of 40 answers are another item's", n)
	}
	if n := send("both", func(i int) int32 { return 201801 + int32(i%20)%2 }); n == 0 {
		t.Log("a batch that makes one partition beside another: in order")
	} else {
		t.Logf("a batch that makes one partition beside another: %d of 40 answers are another item's", n)
	}
}
