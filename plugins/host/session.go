package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "github.com/statscache/statscache/plugins/proto"
)

// unaryTimeout bounds a call whose caller set no deadline: a stopped process would hold it for ever.
const unaryTimeout = 2 * time.Second

// Program is a way to start a plugin.
type Program struct {
	ID      string   // the plugin's id where Builtin; else what to call it until it has told its own
	Argv    []string // path and arguments
	Env     []string // NAME=value, beside the few variables that every plugin gets
	Builtin bool     // part of statscache itself
}

// launcher starts sessions.
type launcher struct {
	home    *home
	logger  *slog.Logger
	timeout time.Duration // for the start of a process, its description and its readiness: each
	memory  int64         // what a process may take
	now     func() time.Time
	number  atomic.Uint32
}

// Session is one life of a plugin process: started, asked, fed, ended. Send and Recv are for one goroutine each; Kill
// and Close may be called by any.
type Session struct {
	process *process
	conn    *grpc.ClientConn
	plugin  pb.PluginClient
	stream  grpc.BidiStreamingClient[pb.ToPlugin, pb.FromPlugin]
	ctx     context.Context // ends with the session
	cancel  context.CancelFunc
	timeout time.Duration
	read    chan struct{} // closed when the plugin's standard output over gRPC has been read to its end
}

// start starts a process and connects to it.
func (l *launcher) start(ctx context.Context, program Program) (*Session, error) {
	if len(program.Argv) == 0 {
		return nil, fmt.Errorf("plugin %s: no program", program.ID)
	}
	dir, err := l.home.session(l.number.Add(1))
	if err != nil {
		return nil, err
	}
	out := newOutput(l.logger.With("plugin", program.ID), l.now)
	s := &Session{process: newProcess(program.Argv, nil, dir, out), timeout: l.timeout, read: make(chan struct{})}
	s.process.memory = l.memory
	s.ctx, s.cancel = context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, s.Kill)
	defer stop()
	address, err := s.greet(program, dir)
	if err == nil {
		err = s.dial(address, out)
	}
	if err != nil {
		close(s.read)
		s.Close()
		return nil, fmt.Errorf("start plugin %s: %w", program.ID, s.explain(err))
	}
	return s, nil
}

// greet starts the process and reads its handshake. go-plugin's client is used for that alone: its own connection
// can't be closed in every case, and its Kill waits for a process that does not answer.
func (s *Session) greet(program Program, dir string) (net.Addr, error) {
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  pb.Handshake(),
		Plugins:          plugin.PluginSet{pb.Service: &plugin.NetRPCUnsupportedPlugin{}},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Logger:           hclog.NewNullLogger(), // what matters comes back as errors and output
		SkipHostEnv:      true,
		StartTimeout:     s.timeout,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: dir},
		RunnerFunc: func(_ hclog.Logger, spec *exec.Cmd, _ string) (runner.Runner, error) {
			s.process.env = append(environment(program, dir), spec.Env...)
			return s.process, nil
		},
	})
	return client.Start()
}

func (s *Session) dial(address net.Addr, out *output) error {
	conn, err := grpc.NewClient("passthrough:///plugin",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, address.Network(), address.String())
		}),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(withDeadline),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(pb.MaxMessageBytes), grpc.MaxCallSendMsgSize(pb.MaxMessageBytes)),
		grpc.WithInitialWindowSize(8<<20), grpc.WithInitialConnWindowSize(16<<20))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	s.conn, s.plugin = conn, pb.NewPluginClient(conn)
	go func() {
		defer close(s.read)
		readStdio(s.ctx, conn, out)
	}()
	return nil
}

// Describe asks the plugin what it is.
func (s *Session) Describe(ctx context.Context) (*pb.Manifest, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	m, err := s.plugin.Describe(ctx, &pb.DescribeRequest{})
	// The plugin's side has the same deadline and may end the call an instant before this one does.
	ended := status.Code(err) == codes.Canceled && time.Since(began) > s.timeout*9/10
	if errors.Is(ctx.Err(), context.DeadlineExceeded) || ended {
		err = fmt.Errorf("no answer in %v", s.timeout)
	}
	if err != nil {
		return nil, fmt.Errorf("describe: %w", s.explain(err))
	}
	return m, nil
}

// Open opens the stream of batches and waits until the plugin is ready for them.
func (s *Session) Open(ctx context.Context, config []byte) error {
	stop := context.AfterFunc(ctx, s.Kill)
	defer stop()
	var slow atomic.Bool
	late := time.AfterFunc(s.timeout, func() { slow.Store(true); s.Kill() })
	defer late.Stop()
	explain := func(err error) error {
		if slow.Load() {
			return fmt.Errorf("not ready in %v: %w", s.timeout, s.explain(err))
		}
		return s.explain(err)
	}
	stream, err := s.plugin.Run(s.ctx, grpc.ForceCodecV2(newFrameCodec()))
	if err != nil {
		return fmt.Errorf("open: %w", explain(err))
	}
	s.stream = stream
	// A failed send is explained by what is received.
	_ = stream.Send(&pb.ToPlugin{Message: &pb.ToPlugin_Open{Open: &pb.Open{ConfigJson: config}}})
	in, err := stream.Recv()
	if err != nil {
		return fmt.Errorf("open: %w", explain(err))
	}
	if in.GetReady() == nil {
		return errors.New("open: the plugin did not answer that it is ready")
	}
	return nil
}

// Send sends an encoded message. It blocks while the plugin does not take it; Kill ends that.
func (s *Session) Send(f frame) error {
	return s.stream.SendMsg(f)
}

// CloseSend tells the plugin that there is nothing more: it answers what it has and closes.
func (s *Session) CloseSend() error { return s.stream.CloseSend() }

// Recv waits for the next result; io.EOF where the plugin has closed.
func (s *Session) Recv() (*pb.Result, error) {
	in, err := s.stream.Recv()
	if err != nil {
		return nil, err
	}
	r := in.GetResult()
	if r == nil {
		return nil, errors.New("the plugin answered something that is no result")
	}
	return r, nil
}

// Pid is the id of the process.
func (s *Session) Pid() int { return s.process.Pid() }

// Kill ends the process and everything it started, at once.
func (s *Session) Kill() {
	_ = s.process.Kill(context.Background())
}

// Stop ends the process the gentle way: it is asked to, and killed where it does not within two seconds.
func (s *Session) Stop() {
	err := s.conn.Invoke(s.ctx, "/plugin.GRPCController/Shutdown", frame(nil), new(frame), grpc.ForceCodecV2(newFrameCodec()))
	if status.Code(err) != codes.Unimplemented { // a server that stops at once has no time for an answer
		select {
		case <-s.process.done:
		case <-time.After(unaryTimeout):
		}
	}
	s.Close()
}

// Close kills what still runs and removes what the session left in the file system. It returns when all is gone.
func (s *Session) Close() {
	s.Kill()
	s.cancel()
	if s.conn != nil {
		_ = s.conn.Close()
	}
	if s.process.Pid() != 0 {
		<-s.process.done
	}
	<-s.read
	_ = os.RemoveAll(s.process.dir)
}

// explain adds to a failure of the connection how the process ended and what it said last.
func (s *Session) explain(err error) error {
	if st, ok := status.FromError(err); ok {
		err = errors.New(st.Message())
	}
	if s.process.Pid() != 0 {
		select { // a process that broke the connection has usually ended, too, but is seen to a moment later
		case <-s.process.done:
			if s.process.err != nil {
				err = fmt.Errorf("%w (%w)", err, s.process.err)
			}
		case <-time.After(100 * time.Millisecond):
		}
	}
	if text := err.Error(); strings.Contains(text, "\n") { // go-plugin's own are whole paragraphs
		err = errors.New(strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' }), "; "))
	}
	if last := s.process.out.last(); last != "" && !strings.Contains(err.Error(), last) {
		err = fmt.Errorf("%w; it printed: %s", err, last)
	}
	return err
}

// environment is all that a plugin gets to see of the host's environment.
func environment(program Program, dir string) []string {
	env := []string{"HOME=" + dir, "TMPDIR=" + dir}
	for _, name := range []string{"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	if program.Builtin {
		env = append(env, "GOMAXPROCS=1") // a plugin does one thing at a time: more threads only cost
	}
	return append(env, program.Env...)
}

func withDeadline(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, unaryTimeout)
		defer cancel()
	}
	return invoke(ctx, method, request, reply, conn, options...)
}
