// Package rejects keeps what was refused, so that an operator can see it and give it in again once the cause is mended.
package rejects

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Reject is one refused message.
type Reject struct {
	At     time.Time `json:"at"`
	Source string    `json:"source"` // endpoint or file it came from
	Reason string    `json:"reason"` // one of INTERFACE's reasons of rejection
	Detail string    `json:"detail"` // what exactly was wrong
	Topic  []byte    `json:"topic"`  // the topic frame as received
	Body   []byte    `json:"body"`   // the message as received, cut to MaxSample unless Whole
	Size   int       `json:"size"`   // of the message as received, bytes
	Whole  bool      `json:"whole"`  // the body is complete and can be replayed
}

// MaxSample is how much of a body is kept of messages that no mended cause would make acceptable.
const MaxSample = 4 << 10

// Options says where rejects go and how much is kept. Zero values take the defaults.
type Options struct {
	Dir         string
	MaxBytes    int64 // of the messages kept whole: 64 MiB
	SampleCount int   // how many of the others are kept at least: 1,000
	Logger      *slog.Logger
}

// Keeper writes rejects down. Messages that a mended cause makes acceptable (signature, policy, time) are kept whole
// in kept.jsonl until it is full; of the others the last SampleCount stand in last.jsonl and last.1.jsonl.
type Keeper struct {
	o       Options
	mu      sync.Mutex
	kept    *os.File
	keptN   int64
	last    *os.File
	lastN   int
	full    bool
	failing bool
}

// Open makes the folder and opens its files.
func Open(o Options) (*Keeper, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 20
	}
	if o.SampleCount == 0 {
		o.SampleCount = 1000
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the rejects folder: %w", err)
	}
	k := &Keeper{o: o}
	var err error
	if k.kept, err = open(k.path("kept.jsonl")); err != nil {
		return nil, err
	}
	info, err := k.kept.Stat()
	if err != nil {
		return nil, fmt.Errorf("open rejects: %w", err)
	}
	k.keptN = info.Size()
	if k.last, err = open(k.path("last.jsonl")); err != nil {
		return nil, err
	}
	k.lastN, err = lines(k.last)
	return k, err
}

func (k *Keeper) path(name string) string { return filepath.Join(k.o.Dir, name) }

func open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open rejects: %w", err)
	}
	return f, nil
}

func lines(f *os.File) (int, error) {
	n := 0
	s := bufio.NewScanner(f)
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		n++
	}
	if err := s.Err(); err != nil {
		return 0, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return n, nil
}

// Keep writes a reject down. It never fails its caller: a message that can't be kept was counted already, and that
// keeping fails is logged once until it works again.
func (k *Keeper) Keep(r Reject) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r.Size = len(r.Body)
	replayable := r.Reason == "signature" || r.Reason == "policy" || r.Reason == "time"
	var err error
	if replayable && k.keptN < k.o.MaxBytes {
		r.Whole = true
		err = k.keepWhole(r)
	} else {
		if replayable && !k.full {
			k.full = true
			k.o.Logger.Warn("rejects kept for replay are full: further ones are counted and sampled only", "file", k.kept.Name(), "bytes", k.keptN)
		}
		err = k.sample(r)
	}
	if err != nil && !k.failing {
		k.o.Logger.Error("a rejected message could not be kept", "error", err)
	}
	k.failing = err != nil
}

func (k *Keeper) keepWhole(r Reject) error {
	n, err := writeLine(k.kept, r)
	k.keptN += int64(n)
	return err
}

func (k *Keeper) sample(r Reject) error {
	if len(r.Body) > MaxSample {
		r.Body = r.Body[:MaxSample]
	}
	if len(r.Topic) > MaxSample {
		r.Topic = r.Topic[:MaxSample]
	}
	if k.lastN >= k.o.SampleCount { // the file before stays: so at least SampleCount are there at any time
		if err := k.rotate(); err != nil {
			return err
		}
	}
	k.lastN++
	_, err := writeLine(k.last, r)
	return err
}

func (k *Keeper) rotate() error {
	if err := os.Rename(k.path("last.jsonl"), k.path("last.1.jsonl")); err != nil {
		return fmt.Errorf("rotate rejects: %w", err)
	}
	f, err := open(k.path("last.jsonl"))
	if err != nil {
		return err
	}
	_ = k.last.Close() // nothing is buffered
	k.last, k.lastN = f, 0
	return nil
}

func writeLine(f *os.File, r Reject) (int, error) {
	line, err := json.Marshal(r)
	if err != nil {
		return 0, fmt.Errorf("encode reject: %w", err)
	}
	n, err := f.Write(append(line, '\n'))
	if err != nil {
		return n, fmt.Errorf("keep reject: %w", err)
	}
	return n, nil
}

// Close closes the files.
func (k *Keeper) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.kept.Close(); err != nil {
		return err
	}
	return k.last.Close()
}
