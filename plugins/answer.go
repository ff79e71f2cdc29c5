package plugins

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	pb "github.com/statscache/statscache/plugins/proto"
)

// maxErrorBytes bounds what is told of one event's failure.
const maxErrorBytes = 4 << 10

// answerer turns batches into results. It is for one goroutine.
type answerer struct {
	p     *Plugin
	tally []tally // one per counter
	add   []func(n int64, dims ...string)
	put   []func(value any, key ...string)

	names *names
	// What the event in hand adds; it becomes part of the result only when every metric has taken the event.
	event   Event
	index   uint32
	pending []addition
	puts    []*pb.Put
}

// addition is one call of add.
type addition struct {
	metric int
	row    uint32
	n      int64
}

func newAnswerer(p *Plugin) *answerer {
	a := &answerer{p: p, names: newNames()}
	for i := range p.Counters {
		a.tally = append(a.tally, newTally(&p.Counters[i]))
		a.add = append(a.add, a.adder(i))
	}
	for i := range p.Latest {
		a.put = append(a.put, a.putter(i))
	}
	return a
}

// adder gives counter i its add function. The answers are summed per row after the event.
func (a *answerer) adder(i int) func(int64, ...string) {
	dims, name := len(a.p.Counters[i].Dims), a.p.Counters[i].Name
	return func(n int64, values ...string) {
		if len(values) != dims {
			panic(fmt.Sprintf("%q counts by %d dimensions, add got %d values", name, dims, len(values)))
		}
		var row uint32
		switch dims {
		case 0:
		case 1:
			row = a.names.of(values[0])
		default:
			row = a.tally[i].combine(a.names, values)
		}
		a.pending = append(a.pending, addition{i, row, n})
	}
}

func (a *answerer) putter(i int) func(any, ...string) {
	l, metric := &a.p.Latest[i], uint32(len(a.p.Counters)+i)
	return func(value any, key ...string) {
		if len(key) != len(l.Key) {
			panic(fmt.Sprintf("%q has keys of %d parts, put got %d", l.Name, len(l.Key), len(key)))
		}
		text, err := json.Marshal(value)
		if err != nil {
			panic(fmt.Sprintf("%q: %v", l.Name, err))
		}
		a.puts = append(a.puts, &pb.Put{Metric: metric, Key: append([]string(nil), key...), Event: a.index, ValueJson: text})
	}
}

// answer computes a batch. An error means that the batch is not what the contract says.
func (a *answerer) answer(b *pb.Batch) (*pb.Result, error) {
	if err := checkBatch(b); err != nil {
		return nil, err
	}
	a.names.reset()
	result := &pb.Result{BatchId: b.Id}
	var now int64
	users, packages := b.Users, b.Packages
	e := &a.event
	for i, delta := range b.TimeUs {
		now += delta
		*e = Event{
			Time: time.UnixMicro(now).UTC(), Topic: b.Names[b.Topic[i]], Agent: b.Names[b.Agent[i]], category: b.Names[b.Category[i]],
			Users: e.Users[:0], Packages: e.Packages[:0],
		}
		e.Users, users = take(e.Users, users, b.UserCount[i], b.Names)
		e.Packages, packages = take(e.Packages, packages, b.PackageCount[i], b.Names)
		if len(b.MsgId) > 0 {
			e.ID = b.MsgId[i]
		}
		if len(b.Body) > 0 {
			e.Body = b.Body[i]
		}
		a.index, a.pending, a.puts = uint32(i), a.pending[:0], a.puts[:0]
		if err := a.one(); err != nil {
			result.Errors = append(result.Errors, &pb.EventError{Event: uint32(i), Error: err.Error()})
			continue
		}
		second := floorDiv(now, 1e6)
		for _, x := range a.pending {
			a.tally[x.metric].count(second, x.row, x.n)
		}
		result.Puts = append(result.Puts, a.puts...)
	}
	for i := range a.tally {
		if counts := a.tally[i].flush(uint32(i)); counts != nil {
			result.Counters = append(result.Counters, counts)
		}
	}
	result.Names = a.names.list
	return result, nil
}

// one shows the event in hand to every metric.
func (a *answerer) one() (err error) {
	defer func() {
		if x := recover(); x != nil {
			text := fmt.Sprintf("%v\n%s", x, debug.Stack())
			err = errors.New(strings.ToValidUTF8(text[:min(len(text), maxErrorBytes)], ""))
		}
	}()
	for i := range a.p.Counters {
		a.p.Counters[i].On(&a.event, a.add[i])
	}
	for i := range a.p.Latest {
		a.p.Latest[i].On(&a.event, a.put[i])
	}
	return nil
}

func take(dst []string, from []uint32, n uint32, all []string) (names []string, rest []uint32) {
	for _, x := range from[:n] {
		dst = append(dst, all[x])
	}
	return dst, from[n:]
}

// checkBatch makes sure that the columns fit together, so that nothing behind it needs to look.
func checkBatch(b *pb.Batch) error {
	n := len(b.TimeUs)
	if len(b.Topic) != n || len(b.Category) != n || len(b.Agent) != n || len(b.UserCount) != n || len(b.PackageCount) != n ||
		len(b.Body) != 0 && len(b.Body) != n || len(b.MsgId) != 0 && len(b.MsgId) != n {
		return errors.New("batch: columns of different lengths")
	}
	for _, column := range [][]uint32{b.Topic, b.Category, b.Agent, b.Users, b.Packages} {
		for _, x := range column {
			if int(x) >= len(b.Names) {
				return errors.New("batch: index beyond the names")
			}
		}
	}
	for _, column := range [][2][]uint32{{b.UserCount, b.Users}, {b.PackageCount, b.Packages}} {
		sum := 0
		for _, k := range column[0] {
			sum += int(k)
		}
		if sum != len(column[1]) {
			return errors.New("batch: counts that do not add up")
		}
	}
	return nil
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
