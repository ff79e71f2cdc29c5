package crate

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/statscache/statscache/store"
)

// badRows finds the rows of a commit that the database will never take, so that they don't stop their plugin for good:
// the commit is durable and can't be changed any more. Such a row is left out and kept as a dead letter at the commit's
// end, with what it was.
type badRows struct {
	db  *DB
	key store.CheckpointKey
	at  int64
}

// upsert halves what is refused until single rows are left. A row is bad when it is refused by itself while the
// database takes others: the dead letter is the proof that it does.
func (b badRows) upsert(ctx context.Context, what, sql string, rows int, args []any) error {
	err := b.db.upsert(ctx, what, sql, rows, args...)
	switch {
	case !errors.Is(err, errRefused) || what == deadLetters:
		return err
	case rows > 1:
		half := rows / 2
		return errors.Join(b.upsert(ctx, what, sql, half, cutRows(args, 0, half)), b.upsert(ctx, what, sql, rows-half, cutRows(args, half, rows)))
	}
	text := fmt.Sprintf("a row of %s was refused and left out: %s: %v", what, describeRow(args), err)
	b.db.log.Error("the database refuses a row for good", "plugin", b.key.Plugin, "generation", b.key.Generation, "stream", b.key.Stream,
		"row", describeRow(args), "error", err)
	return b.db.upsert(ctx, deadLetters, upsertDead, 1, []string{b.key.Plugin}, []int32{int32(b.key.Generation)}, []string{b.key.Stream},
		[]int64{b.at}, []string{""}, []string{strings.ToValidUTF8(text, "\uFFFD")}, []int64{time.Now().UnixMicro()})
}

// cutRows takes a range of rows out of columns.
func cutRows(columns []any, from, to int) []any {
	out := make([]any, len(columns))
	for i, c := range columns {
		out[i] = reflect.ValueOf(c).Slice(from, to).Interface()
	}
	return out
}

// describeRow tells the values of a row, long ones cut.
func describeRow(columns []any) string {
	var parts []string
	for _, c := range columns {
		v := reflect.ValueOf(c).Index(0)
		if v.Kind() == reflect.Pointer {
			continue // the key again, in parts
		}
		text := fmt.Sprint(v.Interface())
		parts = append(parts, text[:min(len(text), 60)])
	}
	return strings.Join(parts, " ")
}
