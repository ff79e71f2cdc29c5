// Package control is how commands talk to the daemon of their data dir: HTTP over a unix socket that only the same user
// can reach.
//
// An import is one POST whose body is a file after the other (multipart, the lines as they stand in the file) and whose
// answer, written meanwhile, is a line of JSON per Event; the last one is the summary or the error. Everything else is
// a short request with a short answer. A client that goes away takes nothing back: what the daemon accepted stays.
package control

import (
	"context"
	"io"

	"github.com/statscache/statscache/api"
)

const (
	// fileHeader names a part's file, path-escaped.
	fileHeader = "Statscache-File"
	// abortHeader marks a part that says: the client could not read on, no more files will come.
	abortHeader = "Statscache-Abort"
	// endHeader marks the part after the last file: a body without it was cut short.
	endHeader = "Statscache-End"
	// maxBadTold bounds the refused lines of an import that are told one by one; further ones are counted.
	maxBadTold = 1000
	// maxDetail bounds what is told of a refused line, in bytes.
	maxDetail = 1 << 10
	// maxAnswer bounds a short answer and a line of a long one, in bytes.
	maxAnswer = 16 << 20
)

// ImportSummary is what became of the lines of an import.
type ImportSummary struct {
	Lines      int            `json:"lines"`
	Owned      int            `json:"owned"`      // new events of this import, counted
	Duplicates int            `json:"duplicates"` // events of this import that were known before
	Expired    int            `json:"expired"`    // older than the archive's horizon
	Rejected   map[string]int `json:"rejected"`   // refused, by reason
}

// BadLine is a line of an import that was refused.
type BadLine struct {
	File   string `json:"file"`
	Line   int    `json:"line"` // from 1
	Reason string `json:"reason"`
	Detail string `json:"detail"`
}

// Event is what an import tells of itself: one of its fields is set.
type Event struct {
	Lines   int            `json:"lines,omitempty"` // read so far
	Bad     *BadLine       `json:"bad,omitempty"`
	Summary *ImportSummary `json:"summary,omitempty"` // the end
	Error   string         `json:"error,omitempty"`   // the end
}

// ImportOptions say how an import tells of itself. The functions are called from one goroutine at a time each and must
// not block.
type ImportOptions struct {
	Progress func(lines int)
	Bad      func(BadLine)
	NoWait   bool // the end is when everything is archived, before the plugins have caught up
}

// NextFile gives the next file of an import, io.EOF after the last. The reader ends with the next call.
type NextFile func() (name string, r io.Reader, err error)

// The verbs of a plugin command.
const (
	Enable  = "enable"
	Disable = "disable"
	Restart = "restart"
)

// PluginResult is what a plugin command did.
type PluginResult struct {
	Said string `json:"said"` // one sentence
}

// Daemon is what the server needs of the daemon that it belongs to.
type Daemon interface {
	ImportFiles(ctx context.Context, next NextFile, o ImportOptions) (ImportSummary, error)
	Plugins() []api.PluginStatus
	// CommandPlugin does what a verb says. It may take as long as the plugin's last commit.
	CommandPlugin(ctx context.Context, verb, id string) (PluginResult, error)
}
