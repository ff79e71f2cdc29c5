package host

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/statscache/statscache/internal/block"
	pb "github.com/statscache/statscache/plugins/proto"
	"github.com/statscache/statscache/store"
)

func TestSorter_IntervalsEqualABruteForceRecount(t *testing.T) {
	for _, c := range []struct {
		steps []int64
		cells int
		span  int64
	}{
		{[]int64{1, 5, 60, 3600, 86400}, 5000, 200_000},
		{[]int64{4, 6, 3600}, 700, 5000},
		{[]int64{60}, 100, 1e6},
		{[]int64{1, 15, 60, 3600, 86400, 604800}, 3000, 1 << 38},
		{[]int64{7, 11, 77}, 300, 1000},
		{[]int64{1, 2}, 1, 10},
	} {
		t.Run(fmt.Sprint(c.steps), func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, uint64(c.cells)))
			m := &metric{steps: c.steps}
			for _, s := range c.steps {
				m.step = gcd(m.step, s)
			}
			want := make([]map[store.Cell]int64, len(c.steps))
			for i := range want {
				want[i] = map[store.Cell]int64{}
			}
			var deltas []store.Delta
			for range c.cells {
				at, series, n := r.Int64N(2*c.span)-c.span, uint32(r.IntN(40)), r.Int64N(5)
				deltas = append(deltas, store.Delta{Cell: store.MakeCell(floorDiv(at, m.step), series), N: n})
				for i, s := range c.steps {
					want[i][store.MakeCell(floorDiv(at, s), series)] += n
				}
			}
			var s sorter
			for i, got := range s.intervals(m, deltas) {
				if !slices.IsSortedFunc(got, func(a, b store.Delta) int {
					if a.Cell < b.Cell {
						return -1
					}
					return 1
				}) {
					t.Fatalf("interval %d: not sorted, or a cell is there twice", c.steps[i])
				}
				if len(got) != len(want[i]) {
					t.Fatalf("interval %d: %d cells, want %d", c.steps[i], len(got), len(want[i]))
				}
				for _, d := range got {
					if want[i][d.Cell] != d.N {
						t.Fatalf("interval %d, cell %v: %d, want %d", c.steps[i], d.Cell, d.N, want[i][d.Cell])
					}
				}
			}
		})
	}
}

// valid is a manifest that nothing is wrong with.
func valid() *pb.Manifest {
	return &pb.Manifest{Id: "p", Version: "1", DataVersion: 3, Topics: []string{"org.*"}, Metrics: []*pb.Metric{
		{Id: "by-user", Name: "By user", Dimensions: []*pb.Dimension{{Name: "user", MultiValued: true}}, IntervalsS: []int64{60, 1}, LayoutJson: []byte(`{}`)},
		{Name: "Last", Kind: pb.Kind_LATEST},
	}}
}

func TestDefine_RefusesManifests(t *testing.T) {
	if d, err := define(valid()); err != nil || d.metrics[0].step != 1 || !d.columns.ids || d.columns.bodies || d.plugin.Metrics[1].ID != "last" || d.topics[0] != "org." {
		t.Fatalf("a good one: %+v %v", d, err)
	}
	long := strings.Repeat("x", 70_000)
	for name, c := range map[string]struct {
		edit func(*pb.Manifest)
		want string
	}{
		"no id":             {func(m *pb.Manifest) { m.Id = "" }, "plugin id"},
		"id with capitals":  {func(m *pb.Manifest) { m.Id = "P" }, "plugin id"},
		"id with a slash":   {func(m *pb.Manifest) { m.Id = "../p" }, "plugin id"},
		"long id":           {func(m *pb.Manifest) { m.Id = strings.Repeat("p", 65) }, "plugin id"},
		"long version":      {func(m *pb.Manifest) { m.Version = long }, "version"},
		"unknown need":      {func(m *pb.Manifest) { m.Need = 5 }, "need"},
		"negative backlog":  {func(m *pb.Manifest) { m.BacklogS = -1 }, "backlog"},
		"endless backlog":   {func(m *pb.Manifest) { m.BacklogS = 1 << 62 }, "backlog"},
		"no metrics":        {func(m *pb.Manifest) { m.Metrics = nil }, "0 metrics"},
		"many metrics":      {func(m *pb.Manifest) { m.Metrics = slices.Repeat(m.Metrics, 40) }, "80 metrics"},
		"many topics":       {func(m *pb.Manifest) { m.Topics = slices.Repeat(m.Topics, 300) }, "topics"},
		"long topic":        {func(m *pb.Manifest) { m.Topics[0] = long }, "topic"},
		"no name":           {func(m *pb.Manifest) { m.Metrics[0].Name = " " }, "no name"},
		"name of nothing":   {func(m *pb.Manifest) { m.Metrics[0].Name = "***" }, "no name"},
		"name with a slash": {func(m *pb.Manifest) { m.Metrics[0].Name, m.Metrics[0].Id = "a/b", "" }, "path"},
		"name with control": {func(m *pb.Manifest) { m.Metrics[0].Name, m.Metrics[0].Id = "a\nb", "" }, "path"},
		"long name":         {func(m *pb.Manifest) { m.Metrics[0].Name, m.Metrics[0].Id = long, "" }, "too long"},
		"other id":          {func(m *pb.Manifest) { m.Metrics[0].Id = "users" }, `"by-user"`},
		"long description":  {func(m *pb.Manifest) { m.Metrics[0].Description = long }, "description"},
		"NUL":               {func(m *pb.Manifest) { m.Metrics[0].Summary = "\x00" }, "NUL"},
		"two of one name":   {func(m *pb.Manifest) { m.Metrics[1].Name = "by user" }, "served"},
		"ident of another":  {func(m *pb.Manifest) { m.Metrics[1].Name = "By user 1m" }, "served"},
		"unknown kind":      {func(m *pb.Manifest) { m.Metrics[0].Kind = 9 }, "kind"},
		"no intervals":      {func(m *pb.Manifest) { m.Metrics[0].IntervalsS = nil }, "0 intervals"},
		"zero interval":     {func(m *pb.Manifest) { m.Metrics[0].IntervalsS[0] = 0 }, "out of range"},
		"negative interval": {func(m *pb.Manifest) { m.Metrics[0].IntervalsS[0] = -60 }, "out of range"},
		"endless interval":  {func(m *pb.Manifest) { m.Metrics[0].IntervalsS[0] = 1 << 60 }, "out of range"},
		"interval twice":    {func(m *pb.Manifest) { m.Metrics[0].IntervalsS[1] = 60 }, "twice"},
		"many intervals":    {func(m *pb.Manifest) { m.Metrics[0].IntervalsS = make([]int64, 17) }, "17 intervals"},
		"latest intervals":  {func(m *pb.Manifest) { m.Metrics[1].IntervalsS = []int64{1} }, "no intervals"},
		"bad layout":        {func(m *pb.Manifest) { m.Metrics[0].LayoutJson = []byte("{") }, "layout"},
		"retention":         {func(m *pb.Manifest) { m.Metrics[0].RetentionS = -1 }, "retention"},
		"max_series":        {func(m *pb.Manifest) { m.Metrics[0].MaxSeries = store.MaxSeries }, "max_series"},
		"dimension name":    {func(m *pb.Manifest) { m.Metrics[0].Dimensions[0].Name = "User name" }, "dimension"},
		"dimension volume":  {func(m *pb.Manifest) { m.Metrics[0].Dimensions[0].Name = "volume" }, "column"},
		"dimension twice": {func(m *pb.Manifest) {
			m.Metrics[0].Dimensions = append(m.Metrics[0].Dimensions, m.Metrics[0].Dimensions[0])
		}, "twice"},
		"many dimensions": {func(m *pb.Manifest) {
			m.Metrics[0].Dimensions = slices.Repeat(m.Metrics[0].Dimensions, 9)
		}, "9 dimensions"},
		"nothing at all": {func(m *pb.Manifest) { proto.Reset(m) }, "plugin id"},
	} {
		t.Run(name, func(t *testing.T) {
			m := valid()
			c.edit(m)
			if _, err := define(m); err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 500 {
				t.Errorf("%.600v, want something with %q", err, c.want)
			}
		})
	}
}

func TestDefine_FingerprintIsOfWhatMakesNumbersComparable(t *testing.T) {
	print := func(edit func(*pb.Manifest)) string {
		m := valid()
		edit(m)
		d, err := define(m)
		if err != nil {
			t.Fatal(err)
		}
		return d.plugin.Fingerprint
	}
	base := print(func(*pb.Manifest) {})
	for name, same := range map[string]func(*pb.Manifest){
		"version":     func(m *pb.Manifest) { m.Version = "2" },
		"order":       func(m *pb.Manifest) { slices.Reverse(m.Metrics); slices.Reverse(m.Metrics[1].IntervalsS) },
		"description": func(m *pb.Manifest) { m.Metrics[0].Description = "new" },
	} {
		if print(same) != base {
			t.Errorf("%s makes another fingerprint", name)
		}
	}
	for name, other := range map[string]func(*pb.Manifest){
		"data version": func(m *pb.Manifest) { m.DataVersion = 4 },
		"topics":       func(m *pb.Manifest) { m.Topics = nil },
		"interval":     func(m *pb.Manifest) { m.Metrics[0].IntervalsS[0] = 120 },
		"dimension":    func(m *pb.Manifest) { m.Metrics[0].Dimensions[0].Name = "agent" },
		"metric":       func(m *pb.Manifest) { m.Metrics = m.Metrics[:1] },
	} {
		if print(other) == base {
			t.Errorf("%s makes no other fingerprint", name)
		}
	}
}

func TestBatch_EncodesWhatTheContractDecodes(t *testing.T) {
	b := sample(rand.New(rand.NewPCG(2, 2)), 1, 200)[0]
	b.Names = slices.Clone(b.Names)
	b.Names[len(b.Names)-1] += "\xff" // not UTF-8: no decoder would take it
	for _, topics := range [][]string{nil, {"org.x.prod.cat1", "org.x.prod.cat2"}} {
		filter := &topicFilter{prefixes: topics}
		for from := 0; from < b.Len(); {
			var x *batch
			x, from = cutBatch(b, from, 77, filter)
			x.id = 5
			f, err := x.encode(columns{bodies: true, ids: true})
			if err != nil {
				t.Fatal(err)
			}
			var in pb.ToPlugin
			if err := proto.Unmarshal(f, &in); err != nil {
				t.Fatal(err)
			}
			checkWire(t, x, in.GetBatch())
			puts := []*pb.Put{{Event: uint32(x.len() - 1)}, {Event: 0}, {Event: 0}}
			ids, err := x.idsOf(puts)
			if err != nil || ids[0] != in.GetBatch().MsgId[0] || ids[x.len()-1] != in.GetBatch().MsgId[x.len()-1] {
				t.Fatalf("ids of puts: %v, %q", err, ids)
			}
		}
	}
}

func checkWire(t *testing.T, x *batch, got *pb.Batch) {
	t.Helper()
	ids, err := x.block.IDs()
	if err != nil {
		t.Fatal(err)
	}
	bodies, _ := x.block.Bodies()
	now, users := int64(0), got.Users
	for k, i := range x.events {
		now += got.TimeUs[k]
		text := strings.ToValidUTF8(fmt.Sprint(x.block.Names[x.block.Topic[i]], x.block.Names[x.block.CategoryOf(i)], x.block.Time[i], ids[i]), "\uFFFD")
		if have := fmt.Sprint(got.Names[got.Topic[k]], got.Names[got.Category[k]], now, got.MsgId[k]); have != text {
			t.Fatalf("event %d: %s, want %s", i, have, text)
		}
		if !bytes.Equal(bodies[i], got.Body[k]) || int(got.UserCount[k]) != len(x.block.UsersOf(i)) {
			t.Fatalf("event %d: body or users differ", i)
		}
		for n, u := range x.block.UsersOf(i) {
			if got.Names[users[n]] != strings.ToValidUTF8(x.block.Names[u], "\uFFFD") {
				t.Fatalf("event %d: user %d differs", i, n)
			}
		}
		users = users[got.UserCount[k]:]
	}
	if len(users) != 0 || got.Id != 5 || got.Names[0] != "" {
		t.Fatal("something is left over")
	}
}

func TestCutBatch_TimesThatCannotBeCounted_AreRefused(t *testing.T) {
	w := block.NewBuilder(category)
	for _, at := range []int64{5, 1 << 62, -1 << 62, 7} {
		w.Add(&block.Event{ID: []byte("x"), IDAt: -1, Topic: []byte("a.b.c.d"), Time: at})
	}
	x, next := cutBatch(w.Build(1, 0, false), 0, 10, &topicFilter{})
	if next != 4 || !slices.Equal(x.refused, []int{1, 2}) || !slices.Equal(x.events, []int{0, 3}) || x.upto != 4 || x.whole {
		t.Errorf("%+v", x)
	}
}

func TestBisect_FindsTheOneEventInFewSteps(t *testing.T) {
	blocks := sample(rand.New(rand.NewPCG(4, 4)), 1, 1000)
	b := blocks[0]
	for _, poison := range []int{0, b.Len() / 3, b.Len() - 1} {
		s, from, crashes := newBisect(), 0, 0
		for {
			x, next := cutBatch(b, from, s.size, &topicFilter{})
			if !slices.Contains(x.events, poison) {
				s.answered(x)
				from = next
				continue
			}
			if crashes++; crashes > 30 {
				t.Fatal("no end")
			}
			if s.blame(x) {
				if !slices.Equal(x.events, []int{poison}) {
					t.Errorf("gave up events %v, not %d", x.events, poison)
				}
				break
			}
		}
		if crashes > 13 || s.suspicious() {
			t.Errorf("poison at %d: %d crashes", poison, crashes)
		}
	}
}

func TestSeriesKey_IsCutToWhatTheStoreTakes(t *testing.T) {
	for _, values := range [][]string{{strings.Repeat("ä", 5000)}, {strings.Repeat("x", 5000), "y"}, {strings.Repeat("\x00", 5000), strings.Repeat("\x01", 5000)}} {
		if k := seriesKey(values); len(k) > store.MaxKeyBytes || len(k) < store.MaxKeyBytes/4 || len(store.SplitKey(k, len(values))) != len(values) {
			t.Errorf("key of %d bytes", len(k))
		}
	}
	if k := seriesKey([]string{"a", "b"}); k != "a\x00b" {
		t.Errorf("key %q", k)
	}
}

func TestOutput_PutsPiecesTogetherAndCuts(t *testing.T) {
	var log bytes.Buffer
	o := newOutput(slog.New(slog.NewTextHandler(&log, nil)), time.Now)
	w := o.writer("stdout")
	for _, piece := range []string{"a", "b\nc", "\n\n", strings.Repeat("d", 3*maxLine), "d\ne\n"} {
		if n, err := w.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := strings.Count(log.String(), "plugin output"); got != 4 || !strings.Contains(log.String(), "line=ab\n") || !strings.Contains(log.String(), "line=e\n") {
		t.Errorf("%d lines: %.500s", got, log.String())
	}
}

func TestDiscover_TakesWhatIsAPluginAndSaysWhatItDoesNot(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{
		"good": 0o755, "also.py": 0o700, ".hidden": 0o755, "good~": 0o755, "good.bak": 0o755, "good.tmp": 0o755, "#good#": 0o755,
		"data.json": 0o644, "open": 0o777, "group": 0o775,
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "empty"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "good"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	list, err := Discover([]string{filepath.Join(dir, "missing"), dir})
	var names []string
	for _, p := range list {
		names = append(names, p.ID)
		if p.Builtin || p.Argv[0] != filepath.Join(dir, p.ID) {
			t.Errorf("%+v", p)
		}
	}
	if !slices.Equal(names, []string{"also.py", "good", "link"}) {
		t.Errorf("found %v", names)
	}
	if err == nil || !strings.Contains(err.Error(), "open") || !strings.Contains(err.Error(), "group") || strings.Contains(err.Error(), "missing") {
		t.Errorf("problems: %v", err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if list, err := Discover([]string{dir}); len(list) > 0 || err == nil {
		t.Errorf("a folder that anyone may write to: %v %v", list, err)
	}
}

func TestOpenHome_LongDirectory_UsesAShortOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 20))
	h, err := openHome(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := h.session(1)
	if err != nil || len(s)+socketTail > maxSocketPath {
		t.Errorf("%q %v", s, err)
	}
	info, err := os.Stat(s)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info, err)
	}
	if err := h.close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(h.short); !os.IsNotExist(err) {
		t.Errorf("%s is left behind", h.short)
	}
}

func TestStatus_NewGenerationTellsHowFarItHasCome(t *testing.T) {
	r := &Runner{prepared: true, building: true, lettersOf: 2, ends: map[string]uint64{"a": 100, "b": 60}, positions: map[string]uint64{"a": 40}}
	if b := r.built(r.lag()); b == nil || *b != (Building{Generation: 2, Done: 40, Total: 160}) {
		t.Errorf("%+v", b)
	}
	if r.building = false; r.built(r.lag()) != nil {
		t.Error("a served generation is said to be in the making")
	}
}
