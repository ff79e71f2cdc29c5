package main

import (
	"context"
	"errors"
	"strings"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	pb "github.com/statscache/statscache/plugins/proto"
)

// lie serves the contract without the SDK, and breaks it.
func lie(mode string) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: pb.Handshake(), Plugins: plugin.PluginSet{pb.Service: &raw{server: &liar{mode: mode}}}, GRPCServer: plugin.DefaultGRPCServer,
	})
}

type raw struct {
	plugin.NetRPCUnsupportedPlugin
	server pb.PluginServer
}

func (p *raw) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pb.RegisterPluginServer(s, p.server)
	return nil
}

func (p *raw) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("a server")
}

type liar struct {
	pb.UnimplementedPluginServer
	mode string
}

func (l *liar) Describe(context.Context, *pb.DescribeRequest) (*pb.Manifest, error) {
	return &pb.Manifest{Id: l.mode, Metrics: []*pb.Metric{{Name: "Counts of " + l.mode, IntervalsS: []int64{60}}}}, nil
}

func (l *liar) Run(stream grpc.BidiStreamingServer[pb.ToPlugin, pb.FromPlugin]) error {
	if _, err := stream.Recv(); err != nil {
		return err
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
		if l.mode == "large-batches" && len(b.TimeUs) > 16 {
			return errors.New("that is too much")
		}
		c := &pb.Counts{}
		now, before := int64(0), int64(0)
		for _, d := range b.TimeUs { // of each event the time since the one before
			now += d
			c.TimeS, c.N = append(c.TimeS, floorDiv(now, 1_000_000)-before), append(c.N, 1)
			before = floorDiv(now, 1_000_000)
		}
		r := &pb.Result{BatchId: b.Id, Names: []string{""}, Counters: []*pb.Counts{c}}
		switch strings.TrimPrefix(l.mode, "wrong-") {
		case "metric":
			c.Metric = 7
		case "time":
			c.TimeS[0] += 1e6
		case "size":
			c.N[0] = 1 << 60
		case "text":
			r.ProtoReflect().SetUnknown([]byte{0x12, 1, 0xff})
		case "batch":
			r.BatchId++
		}
		if err := stream.Send(&pb.FromPlugin{Message: &pb.FromPlugin_Result{Result: r}}); err != nil {
			return err
		}
	}
}

func floorDiv(x, by int64) int64 {
	q := x / by
	if x%by < 0 {
		q--
	}
	return q
}
