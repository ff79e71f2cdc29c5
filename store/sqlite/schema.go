package sqlite

import (
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/internal/failpoint"
	"github.com/statscache/statscache/store"
)

// applicationID marks a database file as ours: "stca".
const applicationID = 0x73746361

// migrations bring a file from version i (PRAGMA user_version) to i+1, each in a transaction of its own. What is
// released is never changed here, only added to.
var migrations = [...]string{schema1} // immutable

// schema1 is the layout. Archive: an event's position is (segment, ordinal of its block << 10 | index in the block).
//
//	hot     small live blocks as they came, whole, until there are enough to fill a block
//	blk     which positions of which stream a block holds, and when; col its header, body its frames
//	seg     up to 256 blocks of one lane; blocks and names are varint deltas of ids
//	post    positions of a segment's events with a name: varint deltas or a bitmap of 2^18 bits
//	ids     2,048 buckets a segment by the top 11 bits of the hash: sorted (46 hash bits << 18 | position)
//	tailid  hashes of the blocks that no segment holds yet
//
// Counters: a table per metric row and interval, count_<no>_<seconds>(k, n) with k = store.Cell; day tables also as
// count_<no>_86400_series with k = series << 32 | day + 2^31; series_<no> is the dictionary, series_<no>_part the
// values of its keys of several dimensions, but for the first one, with which the key begins.
const schema1 = `
CREATE TABLE setting(k TEXT PRIMARY KEY, v INTEGER NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE stream(no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, archived_to INTEGER NOT NULL, owned INTEGER NOT NULL DEFAULT 0, retired INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE hot(id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, lane INTEGER NOT NULL, first INTEGER NOT NULL, upto INTEGER NOT NULL, n INTEGER NOT NULL, d BLOB NOT NULL) STRICT;
CREATE INDEX hot_position ON hot(stream, lane, upto);
CREATE TABLE blk(id INTEGER PRIMARY KEY, lane INTEGER NOT NULL, stream INTEGER NOT NULL, first INTEGER NOT NULL, upto INTEGER NOT NULL, n INTEGER NOT NULL, tmin INTEGER NOT NULL, tmax INTEGER NOT NULL) STRICT;
CREATE INDEX blk_position ON blk(stream, lane, upto);
CREATE TABLE col(id INTEGER PRIMARY KEY, d BLOB NOT NULL) STRICT;
CREATE TABLE body(id INTEGER PRIMARY KEY, d BLOB NOT NULL) STRICT;
CREATE TABLE tailid(id INTEGER PRIMARY KEY, lane INTEGER NOT NULL, d BLOB NOT NULL) STRICT;
CREATE TABLE seg(id INTEGER PRIMARY KEY, lane INTEGER NOT NULL, n INTEGER NOT NULL, tmin INTEGER NOT NULL, tmax INTEGER NOT NULL, untimed INTEGER NOT NULL, blocks BLOB NOT NULL, names BLOB NOT NULL) STRICT;
CREATE TABLE post(k INTEGER PRIMARY KEY, d BLOB NOT NULL) STRICT;
CREATE TABLE ids(k INTEGER PRIMARY KEY, d BLOB NOT NULL) STRICT;
CREATE TABLE name(id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, s TEXT NOT NULL) STRICT;
CREATE UNIQUE INDEX name_s ON name(kind, s);
CREATE TABLE plugin(id TEXT PRIMARY KEY, version TEXT NOT NULL, data_version INTEGER NOT NULL, fingerprint TEXT NOT NULL, metrics TEXT NOT NULL, serving INTEGER NOT NULL, building INTEGER NOT NULL, generations INTEGER NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE generation(plugin TEXT NOT NULL, generation INTEGER NOT NULL, fingerprint TEXT NOT NULL, metrics TEXT NOT NULL, PRIMARY KEY(plugin, generation)) WITHOUT ROWID, STRICT;
CREATE TABLE metric(no INTEGER PRIMARY KEY AUTOINCREMENT, plugin TEXT NOT NULL, generation INTEGER NOT NULL, id TEXT NOT NULL, UNIQUE(plugin, generation, id)) STRICT;
CREATE TABLE version(metric TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE horizon(metric TEXT NOT NULL, seconds INTEGER NOT NULL, before INTEGER NOT NULL, PRIMARY KEY(metric, seconds)) WITHOUT ROWID, STRICT;
CREATE TABLE checkpoint(plugin TEXT NOT NULL, generation INTEGER NOT NULL, stream TEXT NOT NULL, pos INTEGER NOT NULL, epoch INTEGER NOT NULL, PRIMARY KEY(plugin, generation, stream)) WITHOUT ROWID, STRICT;
CREATE TABLE latest(id INTEGER PRIMARY KEY, metric INTEGER NOT NULL, key TEXT NOT NULL, time INTEGER NOT NULL, event TEXT NOT NULL, value BLOB NOT NULL, UNIQUE(metric, key)) STRICT;
CREATE TABLE dead(id INTEGER PRIMARY KEY, plugin TEXT NOT NULL, generation INTEGER NOT NULL, stream TEXT NOT NULL, seq INTEGER NOT NULL, event TEXT NOT NULL, error TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
CREATE INDEX dead_plugin ON dead(plugin, at);
CREATE INDEX dead_place ON dead(plugin, generation, stream, seq);
`

// checkVersion refuses a SQLite that is known to damage what we keep.
func checkVersion(c *conn) error {
	var v string
	if err := c.each("SELECT sqlite_version()", func(s *sqlite.Stmt) error {
		v = s.ColumnText(0)
		return nil
	}); err != nil {
		return err
	}
	var have, want [3]int
	_, err := fmt.Sscanf(v, "%d.%d.%d", &have[0], &have[1], &have[2])
	if err != nil {
		return fmt.Errorf("SQLite calls itself %q: %w", v, err)
	}
	_, _ = fmt.Sscanf(minVersion, "%d.%d.%d", &want[0], &want[1], &want[2])
	for i := range have {
		if have[i] != want[i] {
			if have[i] < want[i] {
				return fmt.Errorf("this binary was built with SQLite %s, which can corrupt databases; it needs %s or newer", v, minVersion)
			}
			break
		}
	}
	return nil
}

// checkOwner tells our file, and an empty one, from all others. It changes nothing.
func checkOwner(c *conn) error {
	app, err := c.int("PRAGMA application_id")
	if err != nil {
		return err
	}
	version, err := c.int("PRAGMA user_version")
	if err != nil {
		return err
	}
	if app == applicationID {
		if version > int64(len(migrations)) {
			return fmt.Errorf("%w: the file has layout %d, this one knows %d; install the newer version again", store.ErrNewer, version, len(migrations))
		}
		return nil
	}
	var tables []string
	if err := c.each("SELECT name FROM sqlite_schema WHERE type='table' ORDER BY name", func(s *sqlite.Stmt) error {
		tables = append(tables, s.ColumnText(0))
		return nil
	}); err != nil {
		return err
	}
	if app == 0 && version == 0 && len(tables) == 0 {
		return nil
	}
	for _, t := range tables {
		if strings.HasPrefix(t, "data_") {
			return fmt.Errorf("%w: the file belongs to the original statscache (table %s); leave it as it is, point statscache.store.url at another file and bring its messages in with `statscache import`", store.ErrForeign, t)
		}
	}
	return fmt.Errorf("%w: the file belongs to another program (application id %d, %d tables); point statscache.store.url at another file", store.ErrForeign, app, len(tables))
}

// migrate brings the file up to date, each step in a transaction. Another process may do the same at the same time.
func (d *DB) migrate(c *conn) error {
	for {
		if err := c.exec("BEGIN IMMEDIATE"); err != nil {
			return err
		}
		version, err := migrateOne(c)
		step := version < len(migrations)
		if err == nil && step {
			err = d.before(failpoint.Migration)
		}
		if err = c.end(err); err == nil && step {
			err = d.after(failpoint.Migration)
		}
		if err != nil {
			return fmt.Errorf("bring layout %d up to date: %w", version, err)
		}
		if !step {
			return nil
		}
	}
}

func migrateOne(c *conn) (version int, err error) {
	if err := checkOwner(c); err != nil { // as it is now, under the lock
		return 0, err
	}
	v, err := c.int("PRAGMA user_version")
	if version = int(v); err != nil || version == len(migrations) {
		return version, err
	}
	for _, q := range strings.Split(migrations[version], ";\n") {
		if q = strings.TrimSpace(q); q == "" {
			continue
		}
		if err := c.exec(q); err != nil {
			return version, err
		}
		c.forget(q)
	}
	if err := c.exec(fmt.Sprintf("PRAGMA application_id=%d", applicationID)); err != nil {
		return version, err
	}
	return version, c.exec(fmt.Sprintf("PRAGMA user_version=%d", version+1))
}

// checkMigrated refuses to read a layout that only a writer may bring up to date.
func checkMigrated(c *conn) error {
	v, err := c.int("PRAGMA user_version")
	if err == nil && int(v) != len(migrations) {
		err = fmt.Errorf("%w: the file has layout %d, this version reads %d; start `statscache run` on it once", store.ErrUnavailable, v, len(migrations))
	}
	return err
}
