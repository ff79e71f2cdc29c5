package store

import (
	"context"
	"encoding/json"
	"strings"
	"time"
)

// Kind says what the values of a metric are.
type Kind string

// The kinds of metrics. Further kinds may come: code that switches on a kind leaves room for an unknown one.
const (
	Counter Kind = "counter" // counts per bucket and series
	Latest  Kind = "latest"  // the newest value per key
)

// DefaultSeriesLimit is the series limit of a metric that declares none.
const DefaultSeriesLimit = 1_000_000

// OtherKey is the series that takes what a metric's series limit leaves no room for.
const OtherKey = "(other)"

// SeriesUse is how much of its series limit a metric has used. Series are never given back, not even those whose counts
// have all expired: a commit under way may hold their numbers. A generation that is counted anew has those alone that
// the archive still tells of.
type SeriesUse struct{ Series, Limit int }

// SeriesUser is what an engine also is that knows how many series there are without counting them.
type SeriesUser interface {
	// SeriesUse gives it for every serving counter, by metric id.
	SeriesUse(ctx context.Context) (map[string]SeriesUse, error)
}

// Dimension is one of the things a metric is counted by.
type Dimension struct {
	Name        string `json:"name"`
	MultiValued bool   `json:"multi_valued"` // one event may count for several of its values
}

// Metric is the definition of a metric as its plugin declares it.
type Metric struct {
	ID          string          `json:"id"` // the ident without the interval
	Name        string          `json:"name"`
	Summary     string          `json:"summary"`
	Description string          `json:"description"`
	Kind        Kind            `json:"kind"`
	Unit        string          `json:"unit"`
	View        string          `json:"view"`
	Dimensions  []Dimension     `json:"dimensions"`
	Intervals   []time.Duration `json:"intervals"` // ascending whole seconds; none for latest values
	Retention   time.Duration   `json:"retention"` // the plugin's own wish, 0 for none
	SeriesLimit int             `json:"series_limit"`
	Layout      json.RawMessage `json:"layout,omitempty"`
}

// Plugin is what the store knows of a plugin: enough to serve its numbers while its process is away.
type Plugin struct {
	ID          string
	Version     string // of the program, informative
	DataVersion uint32
	Fingerprint string // of all that makes numbers comparable: data version, metrics, dimensions, intervals
	Metrics     []Metric
}

// Generations are the two states a plugin's numbers may be in at once. Serving is 0 until the first generation has
// been promoted; Building is 0 where none is being built.
type Generations struct {
	Serving, Building uint32
}

// ServedMetric is a metric of a serving generation.
type ServedMetric struct {
	Metric
	Plugin     string
	Generation uint32
	Version    uint64 // raised by every commit that changes it
}

// Catalog keeps what plugins declare and which generation of their numbers is shown.
type Catalog interface {
	// Register records a plugin as it is now. A plugin that is new starts with generation 1, serving at once. One whose
	// fingerprint differs from the serving generation's gets a new generation to build beside it (or goes on with the
	// one that is being built, where that has this fingerprint). A metric id that another plugin has is an error naming
	// both.
	Register(ctx context.Context, p Plugin) (Generations, error)
	// Promote makes the building generation the serving one and removes the rows of the old one.
	Promote(ctx context.Context, plugin string, generation uint32) error
	// Plugins lists all plugins ever registered, by id.
	Plugins(ctx context.Context) ([]Plugin, error)
	// Metrics lists the serving metrics, by id.
	Metrics(ctx context.Context) ([]ServedMetric, error)
	// Version is the version of a serving metric as last known to this process, 0 for an unknown one. It takes no
	// round trip: it is what every cached answer is checked against.
	Version(metric string) uint64
}

// MaxKeyBytes bounds a key; longer ones are cut by the caller before they come here.
const MaxKeyBytes = 1024

var (
	keyEscape   = strings.NewReplacer("\x00", "\x01\x01", "\x01", "\x01\x02") // immutable
	keyUnescape = strings.NewReplacer("\x01\x01", "\x00", "\x01\x02", "\x01") // immutable
)

// JoinKey makes the key of a series from its dimension values: the value itself for one dimension, the empty string
// for none.
func JoinKey(values []string) string {
	switch len(values) {
	case 0:
		return ""
	case 1:
		return values[0]
	}
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteByte(0)
		}
		_, _ = keyEscape.WriteString(&b, v)
	}
	return b.String()
}

// SplitKey takes a key of n dimensions apart. OtherKey stands for "(other)" in every dimension.
func SplitKey(key string, n int) []string {
	switch {
	case n == 0:
		return nil
	case n == 1:
		return []string{key}
	}
	out := strings.SplitN(key, "\x00", n)
	for i := range out {
		out[i] = keyUnescape.Replace(out[i])
	}
	for len(out) < n {
		out = append(out, out[0])
	}
	return out
}

// Committer is a store that keeps when the numbers of a metric last changed, for all processes alike.
type Committer interface {
	// Committed gives the version that a serving metric has and when it was raised; the zero time where that is unknown.
	Committed(ctx context.Context, metric string) (version uint64, at time.Time, err error)
}
