package plugins

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	pb "github.com/statscache/statscache/plugins/proto"
)

// Ident makes the id of a metric from its name, as statscache always has: lower case, spaces to "-", without
// "'()*&?, characters.
func Ident(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case strings.ContainsRune(`"'()*&?,`, r):
			return -1
		}
		return r
	}, strings.ToLower(name))
}

// manifest says what the plugin is, or what is wrong with its definition.
func (p *Plugin) manifest() (*pb.Manifest, error) {
	m := &pb.Manifest{Id: p.ID, Version: p.Version, DataVersion: max(1, p.DataVersion), Topics: p.Topics, Need: pb.Need_HEADERS}
	if p.Body {
		m.Need = pb.Need_BODY
	}
	if p.Deadline < 0 || p.Deadline.Milliseconds() > math.MaxUint32 || p.Backlog < 0 {
		return nil, errors.New("deadline or backlog out of range")
	}
	m.DeadlineMs, m.BacklogS = uint32(p.Deadline.Milliseconds()), int64(p.Backlog/time.Second)
	for i := range p.Counters {
		x, err := p.Counters[i].metric()
		if err != nil {
			return nil, fmt.Errorf("metric %q: %w", p.Counters[i].Name, err)
		}
		m.Metrics = append(m.Metrics, x)
	}
	for i := range p.Latest {
		x, err := p.Latest[i].metric()
		if err != nil {
			return nil, fmt.Errorf("metric %q: %w", p.Latest[i].Name, err)
		}
		m.Metrics = append(m.Metrics, x)
	}
	seen := map[string]bool{}
	for _, x := range m.Metrics {
		if seen[x.Id] {
			return nil, fmt.Errorf("two metrics have the id %q", x.Id)
		}
		seen[x.Id] = true
	}
	if len(m.Metrics) == 0 {
		return nil, errors.New("no metric")
	}
	if m.Id == "" {
		m.Id = m.Metrics[0].Id
	}
	return m, nil
}

func (c *Counter) metric() (*pb.Metric, error) {
	if c.Name == "" || c.On == nil || len(c.Every) == 0 {
		return nil, errors.New("it needs Name, Every and On")
	}
	x := &pb.Metric{
		Id: Ident(c.Name), Name: c.Name, Summary: c.Summary, Description: c.Description, Kind: pb.Kind_COUNTER,
		RetentionS: int64(c.Keep / time.Second), Unit: c.Unit, View: c.View, LayoutJson: c.Layout, MaxSeries: uint32(c.MaxSeries),
	}
	for _, d := range c.Dims {
		x.Dimensions = append(x.Dimensions, &pb.Dimension{Name: d, MultiValued: slices.Contains(c.Multi, d)})
	}
	for _, d := range c.Multi {
		if !slices.Contains(c.Dims, d) {
			return nil, fmt.Errorf("field Multi names %q, which is not one of Dims", d)
		}
	}
	for _, d := range c.Every {
		if d < time.Second || d%time.Second != 0 {
			return nil, fmt.Errorf("%v is not a number of whole seconds", d)
		}
		x.IntervalsS = append(x.IntervalsS, int64(d/time.Second))
	}
	return x, nil
}

func (l *Latest) metric() (*pb.Metric, error) {
	if l.Name == "" || l.On == nil {
		return nil, errors.New("it needs Name and On")
	}
	x := &pb.Metric{
		Id: Ident(l.Name), Name: l.Name, Summary: l.Summary, Description: l.Description, Kind: pb.Kind_LATEST,
		RetentionS: int64(l.Keep / time.Second), Unit: l.Unit, View: l.View, LayoutJson: l.Layout, MaxSeries: uint32(l.MaxSeries),
	}
	for _, d := range l.Key {
		x.Dimensions = append(x.Dimensions, &pb.Dimension{Name: d})
	}
	return x, nil
}
