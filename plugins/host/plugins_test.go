package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/statscache/statscache/plugins"
	pb "github.com/statscache/statscache/plugins/proto"
	"github.com/statscache/statscache/plugins/volume"
)

// servePlugin is the test binary's life as a plugin (or, for one test, as a host).
func servePlugin(name string) {
	p := volume.Plugin()
	switch name {
	case "volume":
		plugins.Serve(p)
	case "moody": // volume, but that the topics of some events do something to it
		honest := p.Counters[2].On
		p.ID, p.Counters[2].On = "moody", func(e *plugins.Event, add func(int64, ...string)) {
			honest(e, add)
			misbehave(e.Topic)
		}
		plugins.Serve(p)
	case "flood": // prints far too much, also before it says what it is
		fmt.Println("hello, I am not the handshake")
		fmt.Println(strings.Repeat("x", 70_000))
		honest := p.Counters[0].On
		p.ID, p.Counters[0].On = "flood", func(e *plugins.Event, add func(int64, ...string)) {
			fmt.Println(strings.Repeat("out", 25_000))
			fmt.Fprintln(os.Stderr, strings.Repeat("err", 25_000))
			honest(e, add)
		}
		plugins.Serve(p)
	case "upgraded": // volume in its next data version
		p.DataVersion = 2
		p.Counters = p.Counters[1:]
		plugins.Serve(p)
	case "recent": // volume, but that it does not care for old events
		p.ID, p.Backlog = "recent", time.Hour
		plugins.Serve(p)
	case "exits":
		fmt.Fprintln(os.Stderr, "my database is gone")
		os.Exit(7)
	case "parent": // volume with a process of its own, which it forgets
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		_ = os.WriteFile(os.Getenv("CHILD_FILE"), fmt.Append(nil, cmd.Process.Pid), 0o600)
		p.ID = "parent"
		plugins.Serve(p)
	case "latest":
		plugins.Serve(lastMessages())
	case "unbounded":
		plugins.Serve(plugins.Plugin{ID: "unbounded", Body: true, Counters: []plugins.Counter{{
			Name: "By id", Dims: []string{"id"}, Every: []time.Duration{time.Minute, 24 * time.Hour}, MaxSeries: 50,
			On: func(e *plugins.Event, add func(int64, ...string)) { add(1, e.ID) },
		}, {
			Name: "By id and topic", Dims: []string{"id", "topic"}, Every: []time.Duration{time.Hour}, MaxSeries: 70,
			On: func(e *plugins.Event, add func(int64, ...string)) { add(1, e.ID, e.Topic) },
		}}})
	case "pairs":
		plugins.Serve(pairs())
	case "environment":
		fmt.Fprintln(os.Stderr, "ENV", strings.Join(os.Environ(), " "))
		os.Exit(1)
	case "host":
		hostProcess()
	default:
		if mode, ok := strings.CutPrefix(name, "wrong-"); ok {
			serveRaw(&liar{mode: mode})
			return
		}
		fmt.Fprintln(os.Stderr, "no such test plugin:", name)
		os.Exit(1)
	}
}

// misbehave does what the topic says: "once" in it needs a file that remembers that it was done.
func misbehave(topic string) {
	what := topic[strings.LastIndexByte(topic, '.')+1:]
	// A file named by MENDED_FILE stands for a mended plugin: only what it names goes wrong still.
	if left, err := os.ReadFile(os.Getenv("MENDED_FILE")); err == nil && !slices.Contains(strings.Fields(string(left)), what) {
		return
	}
	if strings.HasPrefix(what, "once-") {
		f, err := os.OpenFile(os.Getenv("ONCE_FILE"), os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return
		}
		_ = f.Close()
		what = what[5:]
	}
	switch what {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "exit":
		os.Exit(3)
	case "hang":
		select {}
	case "grow":
		for all := [][]byte(nil); ; {
			all = append(all, bytes.Repeat([]byte("x"), 1<<20))
			runtime.KeepAlive(all)
			time.Sleep(time.Millisecond) // a gigabyte per second
		}
	case "stop":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "panic":
		panic("I do not like it")
	}
}

func lastMessages() plugins.Plugin {
	return plugins.Plugin{ID: "latest", Latest: []plugins.Latest{{
		Name: "Last messages", Key: []string{"category", "topic"},
		On: func(e *plugins.Event, put func(any, ...string)) {
			if e.Body != nil {
				panic("bodies were not asked for")
			}
			put(map[string]any{"id": e.ID}, e.Category(), e.Topic)
		},
	}}}
}

func pairs() plugins.Plugin {
	return plugins.Plugin{Body: true, Topics: []string{"org.x.prod.cat1.*", "org.x.prod.cat3"}, Counters: []plugins.Counter{{
		Name: "Topics and users (pairs)", Dims: []string{"topic", "user"}, Multi: []string{"user"}, Every: []time.Duration{4 * time.Second, 6 * time.Second, time.Hour},
		On: func(e *plugins.Event, add func(int64, ...string)) {
			var body struct {
				N     int64
				MsgID string `json:"msg_id"`
			}
			if err := e.JSON(&body); err != nil || body.MsgID != e.ID {
				panic(fmt.Sprint("body is not the event's: ", err))
			}
			for _, u := range e.Users {
				add(body.N, e.Topic, u)
			}
		},
	}}}
}

// liar is a plugin that does not keep to the contract.
type liar struct {
	pb.UnimplementedPluginServer
	mode string
}

func (l *liar) Describe(context.Context, *pb.DescribeRequest) (*pb.Manifest, error) {
	if l.mode == "describe-hangs" {
		select {}
	}
	return &pb.Manifest{Id: "wrong-" + l.mode, Metrics: []*pb.Metric{
		{Name: "c", Dimensions: []*pb.Dimension{{Name: "d"}}, IntervalsS: []int64{60}},
		{Name: "l", Kind: pb.Kind_LATEST, Dimensions: []*pb.Dimension{{Name: "d"}}},
	}}, nil
}

func (l *liar) Run(stream grpc.BidiStreamingServer[pb.ToPlugin, pb.FromPlugin]) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	if l.mode == "never-ready" {
		select {}
	}
	if err := stream.Send(&pb.FromPlugin{Message: &pb.FromPlugin_Ready{Ready: &pb.Ready{}}}); err != nil {
		return err
	}
	for {
		in, err := stream.Recv()
		if err != nil {
			return nil
		}
		b := in.GetBatch()
		r := &pb.Result{BatchId: b.Id, Names: []string{"", "x"}, Counters: []*pb.Counts{{TimeS: []int64{b.TimeUs[0] / 1e6}, Dims: []uint32{1}, N: []int64{1}}}}
		if fmt.Sprint(b.TimeUs[0]) != os.Getenv("HONEST_US") {
			lies()[l.mode](r)
		}
		if l.mode == "closes" && fmt.Sprint(b.TimeUs[0]) != os.Getenv("HONEST_US") {
			return errors.New("I have had enough")
		}
		if err := stream.Send(&pb.FromPlugin{Message: &pb.FromPlugin_Result{Result: r}}); err != nil {
			return err
		}
		if l.mode == "answers-twice" {
			_ = stream.Send(&pb.FromPlugin{Message: &pb.FromPlugin_Result{Result: r}})
		}
	}
}

// lies are ways to spoil a result.
func lies() map[string]func(*pb.Result) {
	return map[string]func(*pb.Result){
		"batch":    func(r *pb.Result) { r.BatchId++ },
		"metric":   func(r *pb.Result) { r.Counters[0].Metric = 7 },
		"kind":     func(r *pb.Result) { r.Counters[0].Metric = 1 },
		"put-kind": func(r *pb.Result) { r.Puts = []*pb.Put{{Key: []string{"a"}, ValueJson: []byte("1")}} },
		"put-event": func(r *pb.Result) {
			r.Puts = []*pb.Put{{Metric: 1, Event: 5000, Key: []string{"a"}, ValueJson: []byte("1")}}
		},
		"put-key":       func(r *pb.Result) { r.Puts = []*pb.Put{{Metric: 1, ValueJson: []byte("1")}} },
		"put-json":      func(r *pb.Result) { r.Puts = []*pb.Put{{Metric: 1, Key: []string{"a"}, ValueJson: []byte("{")}} },
		"early":         func(r *pb.Result) { r.Counters[0].TimeS[0] -= 1e6 },
		"late":          func(r *pb.Result) { r.Counters[0].TimeS[0] += 1e6 },
		"overflow":      func(r *pb.Result) { r.Counters[0].TimeS[0] = -1 << 63 },
		"columns":       func(r *pb.Result) { r.Counters[0].N = append(r.Counters[0].N, 1) },
		"dims":          func(r *pb.Result) { r.Counters[0].Dims = nil },
		"name":          func(r *pb.Result) { r.Counters[0].Dims[0] = 2 },
		"first-name":    func(r *pb.Result) { r.Names[0] = "zero" },
		"utf8":          func(r *pb.Result) { r.ProtoReflect().SetUnknown([]byte{0x12, 1, 0xff}) },
		"count":         func(r *pb.Result) { r.Counters[0].N[0] = 1 << 60 },
		"error-event":   func(r *pb.Result) { r.Errors = []*pb.EventError{{Event: 5000}} },
		"error-twice":   func(r *pb.Result) { r.Errors = []*pb.EventError{{Event: 0}, {Event: 0}} },
		"answers-twice": func(*pb.Result) {},
		"closes":        func(*pb.Result) {},
	}
}

// rawPlugin serves the contract without the SDK.
type rawPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	server pb.PluginServer
}

func (p *rawPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pb.RegisterPluginServer(s, p.server)
	return nil
}

func (p *rawPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("a server")
}

func serveRaw(s pb.PluginServer) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: pb.Handshake(), Plugins: plugin.PluginSet{pb.Service: &rawPlugin{server: s}}, GRPCServer: plugin.DefaultGRPCServer,
	})
}

// hostProcess is a whole host in a process of its own, to be killed.
func hostProcess() {
	m := newMemory()
	self, _ := os.Executable()
	h, err := New(Options{
		Programs: []Program{
			{ID: "parent", Argv: []string{self}, Builtin: true, Env: []string{"HOST_TEST_PLUGIN=parent", "CHILD_FILE=" + os.Getenv("CHILD_FILE")}},
			{ID: "wrong-closes", Argv: []string{self}, Builtin: true, Env: []string{"HOST_TEST_PLUGIN=wrong-closes"}}, // without the SDK's watch
		},
		Store: m, Feed: feedOf{m}, RunDir: os.Getenv("RUN_DIR"), Limits: quick(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	go func() { _ = h.Run(context.Background()) }()
	for h.Plugins()[0].State != Running || h.Plugins()[1].State != Running {
		time.Sleep(time.Millisecond)
	}
	fmt.Println(h.Plugins()[0].PID, h.Plugins()[1].PID)
	select {}
}
