package e2e

import (
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestCrate_TooOld_IsRefusedInOneSentence runs every kind of process on a server that says that it is of a version which
// answers batches in another order than they were sent.
func TestCrate_TooOld_IsRefusedInOneSentence(t *testing.T) {
	t.Parallel()
	address := crateOfVersion(t, "6.2.0")
	const says = "CrateDB 6.2.0 is too old: 6.3.3 is the first that works"
	for _, command := range []string{"run", "consume", "compute", "serve", "verify"} {
		t.Run(command, func(t *testing.T) {
			s := newSite(t, map[string]string{"statscache.store.url": strconv.Quote("crate://crate@" + address + "/stats?sslmode=disable")})
			r := s.run(command)
			errors := strings.Split(r.stderr, "statscache: ")[1:] // without what the log says of other things
			if r.code != 1 || len(errors) != 1 || !strings.HasSuffix(errors[0], says+"\n") || strings.Count(errors[0], "\n") != 1 {
				t.Errorf("exit status %d, %q; want 1 and one line with %q", r.code, r.stderr, says)
			}
		})
	}
}

// crateOfVersion listens like a CrateDB that answers every question with its version.
func crateOfVersion(t *testing.T, version string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // the end of the test
			}
			go func() {
				defer func() { _ = c.Close() }()
				answerVersion(pgproto3.NewBackend(c, c), version)
			}()
		}
	}()
	return l.Addr().String()
}

// answerVersion speaks the server's side of PostgreSQL's protocol until the client has had enough.
func answerVersion(b *pgproto3.Backend, version string) {
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	const text = 25 // the type's OID
	columns := &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("number"), DataTypeOID: text, DataTypeSize: -1, TypeModifier: -1}}}
	for b.Flush() == nil {
		m, err := b.Receive()
		if err != nil {
			return
		}
		switch m := m.(type) {
		case *pgproto3.Parse:
			b.Send(&pgproto3.ParseComplete{})
		case *pgproto3.Describe:
			if m.ObjectType == 'S' {
				b.Send(&pgproto3.ParameterDescription{})
			}
			b.Send(columns)
		case *pgproto3.Bind:
			b.Send(&pgproto3.BindComplete{})
		case *pgproto3.Execute:
			b.Send(&pgproto3.DataRow{Values: [][]byte{[]byte(version)}})
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
		case *pgproto3.Close:
			b.Send(&pgproto3.CloseComplete{})
		case *pgproto3.Sync:
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		case *pgproto3.Terminate:
			return
		}
	}
}
