package crate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	maxRefusals = 5           // of an error that isn't known to pass by itself
	warnAfter   = time.Second // without an answer
)

var (
	// errShort: a statement was answered, but not for all of its rows. It is repeated.
	errShort = errors.New("not acknowledged for every row")
	// errReadOnly: the server has blocked a table of ours because its disk is nearly full. It is repeated, too.
	errReadOnly = errors.New("tables are read-only")
	errClosed   = errors.New("the store is closed")
	// errRefused: the server answers again and again that it won't.
	errRefused = errors.New("refused by the database")
	// errGivenUp marks what no repetition mends.
	errGivenUp = errors.New("refused")
)

// The texts of XX000 that pass when a node or a shard is back, memory is freed or the disk has room again. CrateDB has
// no codes of their own for them.
var passing = [...]string{"no such shard", "RECOVERING", "is not available", "Node not connected", "node closed",
	"Job killed", "Data too large", "rejected execution", "FORBIDDEN", "read-only", "master", "timed out"} // immutable

// unavailable tells a database that is away, full or starting from one that refuses the statement or its data. Any
// error that isn't the server's is one of the connection. 42P01 (unknown relation) appears for seconds while a node
// starts and is no proof that a table is missing.
func unavailable(err error) bool {
	pg := (*pgconn.PgError)(nil)
	if errors.Is(err, errGivenUp) {
		return false
	}
	if !errors.As(err, &pg) {
		return true
	}
	switch {
	case pg.Code == "42P01", pg.Code == "57014":
		return true
	case strings.HasPrefix(pg.Code, "08"), strings.HasPrefix(pg.Code, "53"), strings.HasPrefix(pg.Code, "57P"):
		return true
	}
	for _, s := range passing {
		if strings.Contains(pg.Message, s) {
			return true
		}
	}
	return false
}

// refusal says whether an error is a server's answer to who we are: no repetition mends it.
func refusal(err error) bool {
	pg := (*pgconn.PgError)(nil)
	return errors.As(err, &pg) && strings.HasPrefix(pg.Code, "28")
}

// unknownHosts says whether none of the hosts has an address.
func unknownHosts(err error) bool {
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		return !slices.ContainsFunc(list.Unwrap(), func(e error) bool { return !unknownHosts(e) })
	}
	dns, ok := err.(*net.DNSError)
	return ok && dns.IsNotFound || err != nil && unknownHosts(errors.Unwrap(err))
}

// plain is an error with a sentence of its own for what pgx tells in many lines.
type plain struct {
	text string
	err  error
}

func (p plain) Error() string { return p.text }

func (p plain) Unwrap() error { return p.err }

// inPlainWords gives an error that users meet in words that say what is wrong and, where there is something, what to do.
func (d *DB) inPlainWords(err error) error {
	pg, dns := (*pgconn.PgError)(nil), (*net.DNSError)(nil)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &pg) && strings.HasPrefix(pg.Code, "28"):
		return plain{fmt.Sprintf("CrateDB at %s refuses user %q: wrong password, or no such user may log in from here", d.at, d.user), err}
	case errors.Is(err, errReadOnly), errors.As(err, &pg) && strings.Contains(pg.Message, "read-only"):
		return plain{"CrateDB's tables are read-only because its disk is nearly full: free disk space or add some; it goes on by itself then", err}
	case errors.As(err, &pg) && (pg.Code == "42501" || pg.Code == "3F000"): // what one may not see is unknown
		return plain{fmt.Sprintf("CrateDB user %q lacks a privilege: grant it DQL, DML and DDL on its schema (%s)", d.user, pg.Message), err}
	case errors.As(err, &pg):
		return err
	case errors.As(err, &dns) && dns.IsNotFound:
		return plain{fmt.Sprintf("no host is named %s", dns.Name), err}
	case errors.Is(err, syscall.ECONNREFUSED):
		return plain{fmt.Sprintf("nothing listens at %s: is CrateDB running, and is that its PostgreSQL port?", d.at), err}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return plain{fmt.Sprintf("CrateDB at %s does not answer in time", d.at), err}
	}
	return err
}

const tagFailed = -3

// tagCount is the number at the end of a command tag. pgx takes -3 (this item of a batch failed) for 3, so the text is
// read here. -2 is success with an unknown count.
func tagCount(t pgconn.CommandTag) int {
	s := t.String()
	n, err := strconv.Atoi(s[strings.LastIndexByte(s, ' ')+1:])
	if err != nil {
		return -2 // statements without a count, such as CREATE
	}
	return n
}
