package host

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that this one falls back to
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// frame is a message in its encoded form: encoded once, sent to any number of plugins.
type frame []byte

// frameCodec is gRPC's own codec for protobuf, but that it passes frames on as they are.
type frameCodec struct{ encoding.CodecV2 }

func newFrameCodec() frameCodec { return frameCodec{encoding.GetCodecV2("proto")} }

// Marshal encodes a message or passes a frame on.
func (c frameCodec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(frame); ok {
		return mem.BufferSlice{mem.SliceBuffer(f)}, nil // never written to, never recycled
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal decodes a message or gives its bytes.
func (c frameCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if f, ok := v.(*frame); ok {
		*f = data.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// readStdio reads what a plugin made with go-plugin prints after its handshake: that comes over the connection, as
// messages {channel = 1: 1 stdout, 2 stderr; data = 2}. A plugin without this service prints to its own stdout.
func readStdio(ctx context.Context, conn *grpc.ClientConn, out *output) {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/plugin.GRPCStdio/StreamStdio",
		grpc.ForceCodecV2(newFrameCodec()))
	if err != nil || stream.SendMsg(frame(nil)) != nil || stream.CloseSend() != nil {
		return
	}
	stdout, stderr := out.writer("stdout"), out.writer("stderr")
	for {
		var f frame
		if stream.RecvMsg(&f) != nil {
			return
		}
		channel, data, ok := parseStdio(f)
		switch {
		case !ok:
			return
		case channel == 2:
			_, _ = stderr.Write(data)
		default:
			_, _ = stdout.Write(data)
		}
	}
}

// parseStdio takes a message of go-plugin's stdio service apart.
func parseStdio(f []byte) (channel uint64, data []byte, ok bool) {
	for len(f) > 0 {
		number, kind, n := protowire.ConsumeTag(f)
		if n < 0 {
			return 0, nil, false
		}
		k := protowire.ConsumeFieldValue(number, kind, f[n:])
		if k < 0 {
			return 0, nil, false
		}
		switch {
		case number == 1 && kind == protowire.VarintType:
			channel, _ = protowire.ConsumeVarint(f[n:])
		case number == 2 && kind == protowire.BytesType:
			data, _ = protowire.ConsumeBytes(f[n:])
		}
		f = f[n+k:]
	}
	return channel, data, true
}
