// Package arm makes a failpoint hook of a text, for processes that a test starts.
package arm

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/statscache/statscache/internal/failpoint"
)

// ErrInjected is what a point armed with "error" fails with.
var ErrInjected = errors.New("injected by a failpoint")

// maxDelay bounds what a process can be made to wait at a point.
const maxDelay = time.Minute

// point is one armed failpoint.
type point struct {
	action string // as it was given, for the record
	do     func() error
	first  int // the hit that is the first to act
	times  int // how many hits act; 0 for all
	hits   int
}

// Hook makes a hook of a list of points, separated by ";", each
//
//	NAME=ACTION[*TIMES][@FIRST]
//
// ACTION is crash (the process ends as by SIGKILL), error (the step fails) or delay(DURATION); it happens at every hit,
// or TIMES times, from the FIRST hit on (1 is the first one). Every hit that acts is a line "NAME ACTION" in record,
// written before it acts, in one write. "" gives the nil Hook.
func Hook(text string, record io.Writer) (failpoint.Hook, error) {
	points := map[string]*point{}
	for part := range strings.SplitSeq(text, ";") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, p, err := parse(part)
		if err != nil {
			return nil, fmt.Errorf("failpoint %q: %w", part, err)
		}
		if points[name] != nil {
			return nil, fmt.Errorf("failpoint %q: %s is armed twice", part, name)
		}
		points[name] = p
	}
	if len(points) == 0 {
		return nil, nil
	}
	var mu sync.Mutex
	return func(name string) error {
		mu.Lock()
		p := points[name]
		if p == nil {
			mu.Unlock()
			return nil
		}
		p.hits++
		acts := p.hits >= p.first && (p.times == 0 || p.hits < p.first+p.times)
		var err error
		if acts {
			_, err = io.WriteString(record, name+" "+p.action+"\n")
		}
		mu.Unlock()
		if err != nil {
			return fmt.Errorf("failpoint %s: record its hit: %w", name, err)
		}
		if !acts {
			return nil
		}
		return p.do()
	}, nil
}

func parse(part string) (name string, p *point, err error) {
	name, rest, ok := strings.Cut(part, "=")
	if !ok {
		return "", nil, errors.New("it is not NAME=ACTION")
	}
	if !slices.Contains(failpoint.Names(), name) {
		return "", nil, fmt.Errorf("there is no point %q", name)
	}
	p = &point{first: 1}
	rest, first, given := strings.Cut(rest, "@")
	if given {
		if p.first, err = count(first); err != nil {
			return "", nil, err
		}
	}
	action, times, given := strings.Cut(rest, "*")
	if given {
		if p.times, err = count(times); err != nil {
			return "", nil, err
		}
	}
	p.action = action
	p.do, err = does(name, action)
	return name, p, err
}

// count reads how many, or which one.
func count(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is not a number from 1 on", text)
	}
	return n, nil
}

func does(name, action string) (func() error, error) {
	switch {
	case action == "crash":
		return crash, nil
	case action == "error":
		return func() error { return fmt.Errorf("%s: %w", name, ErrInjected) }, nil
	}
	if text, ok := strings.CutPrefix(action, "delay("); ok && strings.HasSuffix(text, ")") {
		pause, err := time.ParseDuration(strings.TrimSuffix(text, ")"))
		if err != nil || pause < 0 || pause > maxDelay {
			return nil, fmt.Errorf("%q is not a duration up to %s", strings.TrimSuffix(text, ")"), maxDelay)
		}
		return func() error { time.Sleep(pause); return nil }, nil
	}
	return nil, fmt.Errorf("%q is not crash, error or delay(DURATION)", action)
}

// crash ends the process as nothing else may: no deferred call runs, nothing is flushed.
func crash() error {
	err := syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	if err == nil {
		select {} // the signal is on its way
	}
	return fmt.Errorf("crash: %w", err)
}
