// Package demo makes up the events of a bus: topics, people and packages as busy as those of a Linux distribution.
package demo

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
	"strings"
	"time"
)

const (
	people   = 400
	projects = 1500
	// skew is the exponent of Zipf's law that contributions follow (1.2-1.4 on Fedora's bus).
	skew = 1.25
	// otherBus is how topics of a site with a prefix of its own start.
	otherBus = "io.pagure.prod."
)

// Event is one made-up message as it would come from the bus.
type Event struct {
	Topic string
	Body  []byte // the envelope, JSON
}

// Generator makes up events, the same ones for the same seed and times. It is for one goroutine.
type Generator struct {
	rng       *rand.Rand
	users     []string
	packages  []string
	kindSum   []float64
	counter   map[string]int // `i` of each category: one publisher per service
	userRank  *zipf
	packRank  *zipf
	templates []template
}

// template is a kind of event: its topic, how often it comes and what its message says.
type template struct {
	topic   string // below org.fedoraproject.prod, or whole
	weight  float64
	message func(g *Generator, user, pkg string) map[string]any
	noUser  bool
	noPkg   bool
}

// New makes a generator.
func New(seed uint64) *Generator {
	g := &Generator{rng: rand.New(rand.NewPCG(seed, 0x5ca1ab1e)), counter: map[string]int{}, templates: templates()}
	g.users, g.packages = g.names(people, userStems), g.names(projects, packageStems)
	g.userRank, g.packRank = newZipf(people, skew), newZipf(projects, skew)
	sum := 0.0
	for _, t := range g.templates {
		sum += t.weight
		g.kindSum = append(g.kindSum, sum)
	}
	return g
}

// Next makes up an event that happened at t.
func (g *Generator) Next(t time.Time) Event {
	x := g.rng.Float64() * g.kindSum[len(g.kindSum)-1]
	kind := g.templates[sort.SearchFloat64s(g.kindSum, x)]
	topic := kind.topic
	if !strings.HasPrefix(topic, otherBus) {
		topic = "org.fedoraproject.prod." + topic
	}
	category := strings.Split(topic, ".")[3]
	user, pkg := g.users[g.userRank.pick(g.rng)], g.packages[g.packRank.pick(g.rng)]
	headers := map[string]any{}
	if !kind.noUser {
		headers["fedora_messaging_user_"+user] = true
	}
	if !kind.noPkg {
		headers["fedora_messaging_rpm_"+pkg] = true
	}
	g.counter[category]++
	body, err := json.Marshal(map[string]any{
		"topic": topic, "timestamp": t.Unix(), "msg_id": g.id(t), "i": g.counter[category], "username": category,
		"headers": headers, "msg": kind.message(g, user, pkg),
	})
	if err != nil {
		panic(fmt.Sprintf("demo: %v", err)) // maps of strings and numbers always encode
	}
	return Event{Topic: topic, Body: body}
}

// id makes a msg_id as fedmsg does: the year and a version 4 UUID. The time is in it: a second run with the same seed
// goes on in the same data dir, and its events are others.
func (g *Generator) id(t time.Time) string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], g.rng.Uint64()^uint64(t.UnixNano()))
	binary.LittleEndian.PutUint64(b[8:], g.rng.Uint64())
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%d-%x-%x-%x-%x-%x", t.Year(), b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// pause gives the time to the next of events that come independently of each other at a rate.
func (g *Generator) pause(perSecond float64) time.Duration {
	return time.Duration(-math.Log(1-g.rng.Float64()) / perSecond * float64(time.Second))
}

// activity is how busy the hour is, 1 on average.
func activity(t time.Time) float64 {
	u := t.UTC()
	hour := float64(u.Hour()) + float64(u.Minute())/60
	day := 1 + 0.55*math.Cos((hour-15)/24*2*math.Pi)
	if wd := u.Weekday(); wd == time.Saturday || wd == time.Sunday {
		return day * 0.55
	}
	return day * 1.18
}

// zipf draws ranks whose frequency falls with a power of the rank.
type zipf struct{ sum []float64 }

func newZipf(n int, s float64) *zipf {
	z := &zipf{}
	total := 0.0
	for r := 1; r <= n; r++ {
		total += math.Pow(float64(r), -s)
		z.sum = append(z.sum, total)
	}
	return z
}

func (z *zipf) pick(r *rand.Rand) int {
	return min(sort.SearchFloat64s(z.sum, r.Float64()*z.sum[len(z.sum)-1]), len(z.sum)-1)
}

type stems struct{ prefix, first, second []string }

var ( // immutable word lists
	userStems = stems{[]string{""},
		[]string{"al", "be", "cara", "dan", "el", "fe", "gor", "hanna", "ivo", "jo", "kari", "lu", "mar", "nia", "ola", "pe", "quin", "ro", "sam", "ti"},
		[]string{"bert", "dora", "fan", "gren", "ham", "iska", "kov", "lind", "mann", "nik", "osto", "pard", "rick", "son", "ton", "vid", "wen", "xa", "yne", "zek"}}
	packageStems = stems{[]string{"", "", "", "lib", "python-", "perl-", "rubygem-", "golang-", "php-"},
		[]string{"arc", "bolt", "cel", "dock", "ever", "flux", "grid", "haz", "ion", "jet", "kern", "lumo", "mesh", "nova", "opti", "plex", "quartz", "rust", "syn", "tele"},
		[]string{"base", "core", "db", "edit", "fs", "gate", "http", "io", "json", "kit", "log", "mail", "net", "ops", "parse", "query", "render", "sync", "tool", "util"}}
)

func (g *Generator) names(n int, s stems) []string {
	seen, out := map[string]bool{}, make([]string, 0, n)
	for len(out) < n {
		name := s.prefix[g.rng.IntN(len(s.prefix))] + s.first[g.rng.IntN(len(s.first))] + s.second[g.rng.IntN(len(s.second))]
		if g.rng.IntN(3) == 0 || seen[name] {
			name += fmt.Sprint(g.rng.IntN(90) + 10)
		}
		if !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	return out
}
