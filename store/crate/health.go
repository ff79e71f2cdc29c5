package crate

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/store"
)

// Health asks the cluster what is wrong with it: its tables and the checks that failed. None: nothing is.
func (d *DB) Health(ctx context.Context) (out []store.Ailment, err error) {
	type table struct{ name, health string }
	tables := map[table][2]int64{} // missing and underreplicated shards of all partitions
	err = d.query(ctx, "look at the tables' health", func() { clear(tables) }, func(r pgx.Rows) error {
		var t table
		var missing, under int64
		if err := r.Scan(&t.name, &t.health, &missing, &under); err != nil {
			return err
		}
		tables[t] = [2]int64{missing, under}
		return nil
	}, "SELECT table_name, lower(health), sum(missing_shards)::bigint, sum(underreplicated_shards)::bigint FROM sys.health "+
		"WHERE table_schema = CURRENT_SCHEMA AND lower(health) <> 'green' GROUP BY 1, 2 ORDER BY 1, 2")
	if err != nil {
		return nil, err
	}
	for t, n := range tables {
		a := store.Ailment{What: "table " + t.name, Severity: "yellow", Why: fmt.Sprintf("%d of its copies are missing", n[1]),
			Do: "it mends itself once all nodes are back; a single node can hold no copies: set number_of_replicas to 0, or add nodes"}
		if n[0] > 0 || t.health == "red" {
			a.Severity, a.Why = "red", fmt.Sprintf("%d of its shards are missing: what they hold can't be read or written", n[0])
			a.Do = "start the nodes that are down; if their disks are lost, restore the table from a snapshot"
		}
		out = append(out, a)
	}
	err = d.query(ctx, "look at the cluster's checks", func() {}, func(r pgx.Rows) error {
		var severity int64
		var text string
		if err := r.Scan(&severity, &text); err != nil {
			return err
		}
		text, link, _ := strings.Cut(text, " https://")
		a := store.Ailment{What: "check", Severity: "yellow", Why: strings.TrimSpace(text), Do: "change the setting that it names"}
		if severity >= 3 {
			a.Severity = "red"
		}
		if link != "" {
			a.Do = "see https://" + link
		}
		out = append(out, a)
		return nil
	}, "SELECT severity::bigint, description FROM sys.checks WHERE NOT passed ORDER BY severity DESC, id")
	return out, err
}
