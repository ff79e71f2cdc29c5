package crate

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`) // immutable

// The parameters of a URL that pgx understands and that do not change what the statements mean.
var urlParameters = map[string]bool{"sslmode": true, "sslrootcert": true, "sslcert": true, "sslkey": true,
	"connect_timeout": true, "pool_max_conns": true} // immutable

// parseURL makes a pool's configuration of crate://user:pw@h1:5432,h2:5432/schema?sslmode=disable. User and port may
// be left out (crate, 5432). The hosts are tried in an order of this process's own, so that processes spread.
func parseURL(raw string, statement time.Duration) (*pgxpool.Config, error) {
	rest, ok := strings.CutPrefix(raw, "crate://")
	if !ok {
		return nil, fmt.Errorf("store URL %q does not begin with crate://", redact(raw))
	}
	authority, tail, _ := strings.Cut(rest, "/")
	user := url.User("crate")
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		u, err := url.Parse("crate://" + authority[:at+1] + "h")
		if err != nil {
			return nil, fmt.Errorf("store URL %s: user and password are not URL-encoded", redact(raw))
		}
		user, authority = u.User, authority[at+1:]
	}
	hosts := strings.Split(authority, ",")
	for i, h := range hosts {
		if _, _, err := net.SplitHostPort(h); err != nil {
			hosts[i] = h + ":5432"
		}
		if strings.HasPrefix(hosts[i], ":") {
			return nil, fmt.Errorf("store URL %s: empty host", redact(raw))
		}
	}
	rand.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	schema, query, _ := strings.Cut(tail, "?")
	if !schemaName.MatchString(schema) || schema == "sys" || schema == "information_schema" || schema == "pg_catalog" {
		return nil, fmt.Errorf("store URL %s: schema %q: want lower-case letters, digits and _ after the host", redact(raw), schema)
	}
	q, err := url.ParseQuery(query)
	if err != nil {
		return nil, fmt.Errorf("store URL %s: %w", redact(raw), err)
	}
	for k := range q {
		if !urlParameters[k] {
			return nil, fmt.Errorf("store URL %s: unknown parameter %q", redact(raw), k)
		}
	}
	if !q.Has("connect_timeout") {
		q.Set("connect_timeout", "5")
	}
	conf, err := pgxpool.ParseConfig("postgres://" + user.String() + "@" + strings.Join(hosts, ",") + "/" + schema + "?" + q.Encode())
	if err != nil {
		return nil, fmt.Errorf("store URL %s: %w", redact(raw), err)
	}
	// CrateDB takes session settings from "options" only. Without fail_fast a statement of many rows passes over the
	// ones it can't write. The server ends a statement a little after we have stopped waiting for it.
	conf.ConnConfig.RuntimeParams["options"] = fmt.Sprintf("-c insert_select_fail_fast=true -c statement_timeout=%d",
		(statement + 20*time.Second).Milliseconds())
	conf.ConnConfig.RuntimeParams["application_name"] = "statscache"
	return conf, nil
}

// hosts lists where a configuration connects to.
func hosts(c *pgx.ConnConfig) string {
	list := []string{net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))}
	for _, f := range c.Fallbacks {
		if h := net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port))); !slices.Contains(list, h) { // each once, whatever its TLS
			list = append(list, h)
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// redact leaves out what stands before the @: it may be a password.
func redact(raw string) string {
	if at := strings.LastIndexByte(raw, '@'); at >= 0 {
		return "crate://...@" + raw[at+1:]
	}
	return raw
}
