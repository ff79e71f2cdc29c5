package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"
)

// conn is a connection with statements that are prepared once. It is for one goroutine at a time.
type conn struct {
	c             *sqlite.Conn
	begin, commit *stmt
	stmts         map[string]*stmt
	committed     []func() // what memory is to do once the transaction under way is durable
}

// stmt is a prepared statement.
type stmt struct{ s *sqlite.Stmt }

const busyTimeout = 10 * time.Second

func openConn(path string, readOnly bool, cache int) (*conn, error) {
	flags := sqlite.OpenReadWrite | sqlite.OpenCreate
	if readOnly {
		flags = sqlite.OpenReadOnly
	}
	raw, err := sqlite.OpenConn(path, flags)
	if err != nil {
		return nil, err
	}
	raw.SetBusyTimeout(busyTimeout)
	c := &conn{c: raw, stmts: map[string]*stmt{}}
	if err := c.exec(fmt.Sprintf("PRAGMA cache_size=-%d", max(cache>>10, 256))); err != nil {
		_ = c.close()
		return nil, err
	}
	c.begin, err = c.prepare("BEGIN IMMEDIATE")
	if err == nil {
		c.commit, err = c.prepare("COMMIT")
	}
	if err != nil {
		_ = c.close()
		return nil, err
	}
	return c, nil
}

// pragmas sets up a connection to a file that is known to be ours: some of them change the file.
func (c *conn) pragmas(readOnly bool) error {
	list := []string{"PRAGMA temp_store=MEMORY"}
	if !readOnly {
		list = append(list, "PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA wal_autocheckpoint=4000",
			"PRAGMA journal_size_limit=67108864")
	}
	for _, q := range list {
		if err := c.exec(q); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	return nil
}

func (c *conn) close() error {
	for _, s := range c.stmts {
		_ = s.s.Finalize()
	}
	return c.c.Close()
}

// interruptBy lets ctx interrupt statements until the function that it gives is called.
func (c *conn) interruptBy(ctx context.Context) func() {
	if ctx.Done() == nil {
		return func() {}
	}
	c.c.SetInterrupt(ctx.Done())
	return func() { c.c.SetInterrupt(nil) }
}

// prepare gives the statement of a query, preparing it the first time. Only queries from a bounded set come here.
func (c *conn) prepare(q string) (*stmt, error) {
	if s := c.stmts[q]; s != nil {
		return s, nil
	}
	raw, rest, err := c.c.PrepareTransient(q)
	if err != nil {
		return nil, fmt.Errorf("prepare %.60q: %w", q, err)
	}
	if rest != 0 {
		_ = raw.Finalize()
		return nil, fmt.Errorf("prepare %.60q: more than one statement", q)
	}
	s := &stmt{raw}
	c.stmts[q] = s
	return s, nil
}

// forget releases the statements of queries that name a table that is gone.
func (c *conn) forget(queries ...string) {
	for _, q := range queries {
		if s := c.stmts[q]; s != nil {
			_ = s.s.Finalize()
			delete(c.stmts, q)
		}
	}
}

// exec runs a statement that gives no rows (or whose rows nobody needs).
func (c *conn) exec(q string, args ...any) error {
	return c.each(q, nil, args...)
}

// each runs a statement and calls f for every row.
func (c *conn) each(q string, f func(*sqlite.Stmt) error, args ...any) error {
	s, err := c.prepare(q)
	if err != nil {
		return err
	}
	return s.each(f, args...)
}

// int gives the first column of the first row, 0 where there is none or it is NULL.
func (c *conn) int(q string, args ...any) (n int64, err error) {
	err = c.each(q, func(s *sqlite.Stmt) error {
		n = s.ColumnInt64(0)
		return errStop
	}, args...)
	return n, err
}

// has says whether there is a row.
func (c *conn) has(q string, args ...any) (found bool, err error) {
	err = c.each(q, func(*sqlite.Stmt) error {
		found = true
		return errStop
	}, args...)
	return found, err
}

// errStop ends each without an error.
var errStop = errors.New("stop")

// blob gives the first column of the first row as bytes of its own, nil where there is no row.
func (c *conn) blob(q string, args ...any) (out []byte, err error) {
	err = c.each(q, func(s *sqlite.Stmt) error {
		out = columnBytes(s, 0)
		return errStop
	}, args...)
	return out, err
}

// blobIn is blob in the room of a slice that the caller needs no more.
func (c *conn) blobIn(room []byte, q string, args ...any) (out []byte, err error) {
	err = c.each(q, func(s *sqlite.Stmt) error {
		n := s.ColumnLen(0)
		if out = room; cap(out) < n {
			out = make([]byte, n)
		}
		out = out[:n]
		s.ColumnBytes(0, out)
		return errStop
	}, args...)
	return out, err
}

func columnBytes(s *sqlite.Stmt, col int) []byte {
	out := make([]byte, s.ColumnLen(col))
	s.ColumnBytes(col, out)
	return out
}

// each binds the arguments and steps through the rows.
func (s *stmt) each(f func(*sqlite.Stmt) error, args ...any) (err error) {
	for i, a := range args {
		switch x := a.(type) {
		case int64:
			s.s.BindInt64(i+1, x)
		case int:
			s.s.BindInt64(i+1, int64(x))
		case uint32:
			s.s.BindInt64(i+1, int64(x))
		case uint64:
			s.s.BindInt64(i+1, int64(x))
		case string:
			s.s.BindText(i+1, x)
		case []byte:
			s.s.BindBytes(i+1, x)
		default:
			return fmt.Errorf("argument %d is a %T", i+1, a)
		}
	}
	for {
		row, err := s.s.Step()
		if err != nil {
			_ = s.s.Reset() // answers the error of the step again
			return err
		}
		if !row {
			return s.s.Reset()
		}
		if f != nil {
			if err := f(s.s); err != nil {
				_ = s.s.Reset()
				if errors.Is(err, errStop) {
					return nil
				}
				return err
			}
		}
	}
}

// put steps a statement whose values are integers and a blob: the hot path of the archive, without boxing.
func (s *stmt) put(k int64, d []byte) error {
	s.s.BindInt64(1, k)
	s.s.BindBytes(2, d)
	return s.step()
}

// step runs a bound statement that gives no rows.
func (s *stmt) step() error {
	if _, err := s.s.Step(); err != nil {
		_ = s.s.Reset()
		return err
	}
	return s.s.Reset()
}

// end commits where err is nil and rolls back otherwise.
func (c *conn) end(err error) error {
	if err == nil {
		err = c.commit.step()
	}
	if err != nil {
		c.rollback()
	}
	return err
}

// rollback ends a transaction if there is one: some errors have ended it already.
func (c *conn) rollback() {
	if !c.c.AutocommitEnabled() {
		_ = c.exec("ROLLBACK") // can only fail where there is no transaction
	}
}
