package crate

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/internal/failpoint"
	"github.com/statscache/statscache/store"
)

const product = "statscache"

// steps bring a schema from version i to i+1. Several processes may take a step at once, and a statement of it may come
// late: each is harmless to repeat, also on a schema that is further. What is released is never changed here, only added to.
func (d *DB) steps() [][]change {
	var tables []change
	for _, sql := range d.tables()[1:] {
		tables = append(tables, change{sql: sql})
	}
	return [][]change{
		tables,
		// When the version was raised, in ms since 1970. NULL where a process did that which knows of no such column.
		{{sql: "ALTER TABLE metrics ADD COLUMN raised BIGINT", table: "metrics", column: "raised"}},
	}
}

// change is a statement of a step.
type change struct {
	sql           string
	table, column string // what it adds, where that is a column: the server refuses one that is there already
}

// minServer is the first version whose answers to batches and whose text timestamps are right with pgx.
var minServer = [3]int{6, 3, 3} // immutable

// A column that is only ever carried along: without index and column store there is no bound on its length.
const carried = "TEXT INDEX OFF STORAGE WITH (columnstore=false)"

// tables are created in this order; the first one says that the schema is ours. They are those of version 1: what came
// later is a step of its own.
func (d *DB) tables() []string {
	replicas := "0-1" // the server makes a copy as soon as it has a second node
	if d.opts.Replicas > 0 {
		replicas = strconv.Itoa(d.opts.Replicas)
	}
	one := fmt.Sprintf("CLUSTERED INTO 1 SHARDS WITH (number_of_replicas = '%s', column_policy = 'strict'", replicas)
	many := strings.Replace(one, "INTO 1 ", fmt.Sprintf("INTO %d ", d.opts.Shards), 1)
	slow := fmt.Sprintf(", refresh_interval = %d)", refreshInterval)
	return []string{
		"CREATE TABLE IF NOT EXISTS schema_version (name TEXT PRIMARY KEY, version INTEGER) " + one + ")",
		// Partitioned by month, so that retention drops whole partitions. exact holds the attributes of the rare event
		// whose own columns can't (see row.go).
		"CREATE TABLE IF NOT EXISTS events (part INTEGER, id TEXT, ts BIGINT, stream TEXT, seq BIGINT, topic TEXT, category TEXT, " +
			"users ARRAY(TEXT), packages ARRAY(TEXT), agent TEXT, source TEXT, signed SMALLINT, untimed BOOLEAN, received BIGINT, " +
			"backfill BOOLEAN, size INTEGER, exact " + carried + ", body " + carried + ", PRIMARY KEY (part, id)) " +
			strings.Replace(one, "WITH", "PARTITIONED BY (part) WITH", 1) + ", codec = 'best_compression'" + slow,
		"CREATE TABLE IF NOT EXISTS streams (id TEXT PRIMARY KEY, archived_to BIGINT, owned BIGINT, epoch BIGINT, retired BOOLEAN) " + one + ")",
		"CREATE TABLE IF NOT EXISTS checkpoints (plugin TEXT, generation INTEGER, stream TEXT, pos BIGINT, intent BIGINT, redo " +
			carried + ", epoch BIGINT, retired BOOLEAN, PRIMARY KEY (plugin, generation, stream)) " + one + ")",
		// A row of counts is one stream's (slot) share of a cell. k1 to k3 are the first dimensions of dkey, for filters;
		// was is the count before the commit that made it n, at was_pos (see rows.go).
		"CREATE TABLE IF NOT EXISTS counters (metric TEXT, generation INTEGER, gran BIGINT, bucket BIGINT, dkey TEXT, slot TEXT, " +
			"k1 TEXT, k2 TEXT, k3 TEXT, n BIGINT, pos BIGINT, was BIGINT, was_pos BIGINT, " +
			"PRIMARY KEY (metric, generation, gran, bucket, dkey, slot)) " + many + slow,
		"CREATE TABLE IF NOT EXISTS latest (metric TEXT, generation INTEGER, dkey TEXT, ts BIGINT, id TEXT, doc " + carried +
			", PRIMARY KEY (metric, generation, dkey)) " + many + slow,
		"CREATE TABLE IF NOT EXISTS dead_letters (plugin TEXT, generation INTEGER, stream TEXT, seq BIGINT, id TEXT, error " + carried +
			", at BIGINT, PRIMARY KEY (plugin, generation, stream, seq)) " + one + slow,
		"CREATE TABLE IF NOT EXISTS plugins (id TEXT PRIMARY KEY, doc " + carried + ") " + one + ")",
		"CREATE TABLE IF NOT EXISTS metrics (id TEXT PRIMARY KEY, plugin TEXT, version BIGINT) " + one + ")",
		"CREATE TABLE IF NOT EXISTS horizons (metric TEXT, gran BIGINT, before BIGINT, PRIMARY KEY (metric, gran)) " + one + ")",
		leaseTable(one),
	}
}

// prepare refuses what isn't ours or is newer, and creates what is missing. Several processes may do it at once: the
// table of the version is every creator's first, so a schema that has tables but not this one is somebody else's.
// answered is called after each answer: on a slow server the tables take minutes.
func (d *DB) prepare(ctx context.Context, answered func()) error {
	if err := d.checkServer(ctx); err != nil {
		return err
	}
	answered()
	var names []string
	err := d.query(ctx, "list tables", func() { names = nil }, func(r pgx.Rows) error {
		var n string
		if err := r.Scan(&n); err != nil {
			return err
		}
		names = append(names, n)
		return nil
	}, "SELECT table_name FROM information_schema.tables WHERE table_schema = CURRENT_SCHEMA ORDER BY table_name")
	if err != nil {
		return err
	}
	switch {
	case slices.Contains(names, "schema_version"):
	case len(names) > 0:
		return fmt.Errorf("%w: the schema has tables (%s, ...) but none named schema_version", store.ErrForeign, names[0])
	default:
		if err := d.exec(ctx, "create tables", d.tables()[0]); err != nil {
			return err
		}
		answered()
	}
	version, err := d.checkVersion(ctx, len(names) <= 1)
	if err != nil {
		return err
	}
	return d.climb(ctx, version, answered)
}

// climb takes the steps that a schema lacks. The version says that a step is done, so it is raised after it.
func (d *DB) climb(ctx context.Context, version int, answered func()) error {
	for steps := d.steps(); version < len(steps); version++ {
		err := d.around(failpoint.Migration, func() error { return d.step(ctx, steps[version], version+1, answered) })
		if err != nil {
			return err
		}
	}
	return nil
}

// step brings the schema to a version.
func (d *DB) step(ctx context.Context, list []change, version int, answered func()) error {
	for _, c := range list {
		err := d.retry(ctx, fmt.Sprintf("bring the schema to version %d", version), func(ctx context.Context) error { return d.change(ctx, c) })
		if err != nil {
			return err
		}
		answered()
	}
	return d.exec(ctx, "write the schema's version", noteVersion, product, version)
}

// noteVersion raises the schema's version, and otherwise does nothing.
const noteVersion = "INSERT INTO schema_version (name, version) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET " +
	"version = CASE WHEN excluded.version > version THEN excluded.version ELSE version END"

// writable waits until the database takes a write: a cluster without a quorum answers what is read, and nothing else.
func (d *DB) writable(ctx context.Context) error {
	return d.retry(ctx, "write", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, pollWait)
		defer cancel()
		return d.execOnce(ctx, noteVersion, product, len(d.steps()))
	})
}

// change tries a change once. Where another process adds the same column between the look and the statement, that may be
// refused: the next try sees that it is done.
func (d *DB) change(ctx context.Context, c change) error {
	if c.column != "" {
		var there int
		err := d.pool.QueryRow(ctx, "SELECT count(*) FROM information_schema.columns WHERE table_schema = CURRENT_SCHEMA AND table_name = $1 AND column_name = $2",
			c.table, c.column).Scan(&there)
		if err != nil || there > 0 {
			return err
		}
	}
	return d.execOnce(ctx, c.sql)
}

func (d *DB) checkServer(ctx context.Context) error {
	var text string
	err := d.retry(ctx, "read the server's version", func(ctx context.Context) error {
		return d.pool.QueryRow(ctx, "SELECT version['number'] FROM sys.nodes ORDER BY 1 LIMIT 1").Scan(&text)
	})
	if err != nil {
		return err
	}
	d.log.Debug("connected", "server", "CrateDB "+text)
	return newEnough(text)
}

// newEnough refuses a server before minServer.
func newEnough(text string) error {
	for i, part := range strings.SplitN(text, ".", 3) {
		n, _ := strconv.Atoi(part)
		if n > minServer[i] {
			break
		}
		if n < minServer[i] {
			return fmt.Errorf("CrateDB %s is too old: 6.3.3 is the first that works", text)
		}
	}
	return nil
}

// checkVersion gives the version of a schema, 0 where it is new.
func (d *DB) checkVersion(ctx context.Context, fresh bool) (version int, err error) {
	if fresh {
		err := d.exec(ctx, "write the schema's version",
			"INSERT INTO schema_version (name, version) VALUES ($1, 0) ON CONFLICT (name) DO NOTHING", product)
		if err != nil {
			return 0, err
		}
	}
	found := false
	err = d.query(ctx, "read the schema's version", func() { found = false }, func(r pgx.Rows) error {
		found = true
		return r.Scan(&version)
	}, "SELECT version FROM schema_version WHERE name = $1", product)
	switch known := len(d.steps()); {
	case err != nil:
		return 0, err
	case !found:
		return 0, fmt.Errorf("%w: its schema_version does not name %s", store.ErrForeign, product)
	case version > known:
		return 0, fmt.Errorf("%w: schema version %d, this one knows %d", store.ErrNewer, version, known)
	}
	return version, nil
}
