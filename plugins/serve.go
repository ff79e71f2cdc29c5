package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	pb "github.com/statscache/statscache/plugins/proto"
)

// gcPercent lets garbage be collected less often: a plugin has next to nothing that lives, and batches are garbage soon.
const gcPercent = 400

// Serve is a plugin's whole main: under statscache it works until it is told to stop; run by hand it says what it is.
// It ends the process where the definition is wrong.
func Serve(p Plugin) {
	m, err := p.manifest()
	if err != nil {
		fmt.Fprintf(os.Stderr, "plugin %s: %v\n", p.ID, err)
		os.Exit(1)
	}
	if os.Getenv(pb.CookieKey) == "" {
		os.Exit(byHand(m, os.Args, os.Stdout))
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	go watchParent(os.Getppid())
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: pb.Handshake(),
		Plugins:         plugin.PluginSet{pb.Service: &offer{server: &server{plugin: &p, manifest: m}}},
		Logger:          hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr}),
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options,
				grpc.MaxRecvMsgSize(pb.MaxMessageBytes), grpc.MaxSendMsgSize(pb.MaxMessageBytes),
				grpc.InitialWindowSize(8<<20), grpc.InitialConnWindowSize(16<<20))...)
		},
	})
}

// watchParent ends the process when statscache has gone: the kernel's own signal for that is not there everywhere.
func watchParent(parent int) {
	for range time.Tick(time.Second) {
		if os.Getppid() != parent {
			os.Exit(0)
		}
	}
}

// byHand is what the program does for a person: it explains itself and gives the exit status.
func byHand(m *pb.Manifest, args []string, out io.Writer) int {
	name := filepath.Base(args[0])
	if len(args) > 1 && args[1] == "describe" {
		fmt.Fprintln(out, protojson.MarshalOptions{Multiline: true, EmitUnpopulated: true}.Format(m))
		return 0
	}
	fmt.Fprintf(out, "%s is the statscache plugin %q, version %q. statscache starts it; it does nothing by itself.\n\n", name, m.Id, m.Version)
	for _, x := range m.Metrics {
		fmt.Fprintf(out, "  %-30s %s\n", x.Id, x.Summary)
	}
	fmt.Fprintf(out, `
To see what it tells statscache:  %[1]s describe
To test it, copy it into the plugins/ folder of a demo's data dir (statscache demo --data-dir DIR) and look at
statscache plugin list --data-dir DIR; to install it, into a folder of statscache.plugins.path.
`, name)
	if len(args) > 1 && args[1] != "help" && args[1] != "--help" && args[1] != "-h" {
		return 2
	}
	return 0
}

// offer is how go-plugin gets at the server.
type offer struct {
	plugin.NetRPCUnsupportedPlugin
	server *server
}

func (o *offer) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pb.RegisterPluginServer(s, o.server)
	return nil
}

func (o *offer) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("this is the plugin's side")
}

type server struct {
	pb.UnimplementedPluginServer
	plugin   *Plugin
	manifest *pb.Manifest
}

// Describe answers with the manifest.
func (s *server) Describe(context.Context, *pb.DescribeRequest) (*pb.Manifest, error) {
	return s.manifest, nil
}

// Run answers batches one by one until the host closes its side.
func (s *server) Run(stream grpc.BidiStreamingServer[pb.ToPlugin, pb.FromPlugin]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	open := first.GetOpen()
	if open == nil {
		return status.Error(codes.InvalidArgument, "the first message must be open")
	}
	if err := s.configure(open.ConfigJson); err != nil {
		return status.Errorf(codes.FailedPrecondition, "configuration: %v", err)
	}
	if err := stream.Send(&pb.FromPlugin{Message: &pb.FromPlugin_Ready{Ready: &pb.Ready{}}}); err != nil {
		return err
	}
	a := newAnswerer(s.plugin)
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		batch := in.GetBatch()
		if batch == nil {
			return status.Error(codes.InvalidArgument, "expected a batch")
		}
		result, err := a.answer(batch)
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		if err := stream.Send(&pb.FromPlugin{Message: &pb.FromPlugin_Result{Result: result}}); err != nil {
			return err
		}
	}
}

func (s *server) configure(config []byte) error {
	if s.plugin.Configure == nil {
		return nil
	}
	if len(config) == 0 {
		config = []byte("{}")
	}
	return s.plugin.Configure(json.RawMessage(config))
}
