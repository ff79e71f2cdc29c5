package zmtp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

var limits = Limits{Handshake: 512, Frame: 100_000, Message: 150_000, Frames: 4}

// chunks is a connection that gives its bytes in pieces of random length.
type chunks struct {
	net.Conn
	r    io.Reader
	rand *rand.Rand
}

func (c chunks) Read(p []byte) (int, error) {
	if len(p) > 1 {
		p = p[:1+c.rand.IntN(len(p))]
		if c.rand.IntN(2) == 0 {
			p = p[:min(len(p), 1+c.rand.IntN(12))]
		}
	}
	return c.r.Read(p)
}

func guarded(in []byte, seed uint64) *Conn {
	return Guard(chunks{r: bytes.NewReader(in), rand: rand.New(rand.NewPCG(seed, 0))}, limits)
}

func greeting() []byte {
	b := make([]byte, greetingBytes)
	b[0], b[9], b[10], b[11] = signature, 0x7f, 3, 1
	return append(b, flagCommand, 3, 1, 'A', 'B')
}

func frame(b []byte, flags byte, size int) []byte {
	if size > 255 {
		b = append(b, flags|flagLong)
		b = binary.BigEndian.AppendUint64(b, uint64(size))
	} else {
		b = append(b, flags, byte(size))
	}
	return append(b, make([]byte, size)...)
}

func TestConn_GoodStreamsPassUnchanged(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		in, messages := greeting(), 0
		for range 20 {
			for k := r.IntN(3); k > 0; k-- {
				in = frame(in, flagMore, r.IntN(25_000))
			}
			in = frame(in, 0, r.IntN(90_000)>>r.IntN(17))
			messages++
		}
		c := guarded(in, seed)
		out, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(in, out) {
			t.Fatalf("seed %d: %d bytes of %d: %v", seed, len(out), len(in), err)
		}
		if major, minor := c.Version(); major != 3 || minor != 1 || c.Buffered() {
			t.Fatalf("version %d.%d, buffered %v", major, minor, c.Buffered())
		}
	}
}

func TestConn_BadHeadersAreNeverHandedOut(t *testing.T) {
	long := func(size uint64) []byte { return binary.BigEndian.AppendUint64([]byte{flagLong}, size) }
	more := bytes.Repeat(frame(nil, flagMore, 3), 4)
	for name, c := range map[string]struct {
		bad  []byte
		want error
		out  int // bytes of bad that are good or harmless
	}{
		"one byte too large": {long(100_001), ErrSize, 8},
		"2^31":               {long(1 << 31), ErrSize, 8},
		"2^62":               {long(1 << 62), ErrSize, 8},
		"2^64-1":             {long(1<<64 - 1), ErrSize, 8},
		"message too large":  {append(frame(nil, flagMore, 90_000), long(60_001)...), ErrSize, 90_009 + 8},
		"endless frames":     {append(more, flagMore, 3), ErrFrames, len(more) + 1},
		"reserved flags":     {[]byte{8, 0}, ErrProtocol, 0},
		"command of frames":  {[]byte{flagCommand | flagMore, 0}, ErrProtocol, 0},
		"command in between": {append(frame(nil, flagMore, 3), flagCommand, 0), ErrProtocol, 5},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(100) {
				good := frame(greeting(), 0, 300)
				c := guarded(append(append(bytes.Clone(good), c.bad...), make([]byte, 100)...), seed)
				out, err := io.ReadAll(c)
				if !errors.Is(err, ErrProtocol) || !bytes.HasPrefix(out, good) {
					t.Fatalf("seed %d: %d bytes: %v", seed, len(out), err)
				}
			}
			c2 := guarded(append(frame(greeting(), 0, 300), c.bad...), 1)
			out, err := io.ReadAll(c2)
			if !errors.Is(err, c.want) || len(out) > len(frame(greeting(), 0, 300))+c.out {
				t.Fatalf("%v after %d bytes", err, len(out))
			}
			if _, again := c2.Read(make([]byte, 1)); !errors.Is(again, c.want) {
				t.Errorf("then %v", again)
			}
		})
	}
}

func TestConn_GreetingIsVetted(t *testing.T) {
	old := greeting()
	old[10] = 2
	for name, in := range map[string][]byte{"HTTP": []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), "ZMTP 2": old,
		"long READY": frame(greeting()[:greetingBytes], flagCommand, 513)} {
		if out, err := io.ReadAll(guarded(in, 3)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %d bytes, %v", name, len(out), err)
		}
	}
}

func TestConn_BufferedMeansAWholeMessage(t *testing.T) {
	in := frame(greeting(), flagMore, 10)
	in = frame(in, 0, 20) // one message
	in = frame(in, flagMore, 10)
	in = frame(in, 0, 20)[:len(in)+5] // and the beginning of another
	c := Guard(chunks{r: bytes.NewReader(in), rand: rand.New(rand.NewPCG(1, 1))}, limits)
	c.Conn = oneRead{bytes.NewReader(in)}
	read := func(n int) {
		if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	read(len(greeting()))
	if !c.Buffered() {
		t.Error("a whole message waits, but Buffered is false")
	}
	read(12 + 22)
	if c.Buffered() {
		t.Error("only a piece of a message waits, but Buffered is true")
	}
}

type oneRead struct{ *bytes.Reader }

func (oneRead) Close() error                       { return nil }
func (oneRead) LocalAddr() net.Addr                { return nil }
func (oneRead) RemoteAddr() net.Addr               { return nil }
func (oneRead) SetDeadline(time.Time) error        { return nil }
func (oneRead) SetReadDeadline(t time.Time) error  { return nil }
func (oneRead) SetWriteDeadline(t time.Time) error { return nil }
func (oneRead) Write(p []byte) (int, error)        { return len(p), nil }

func TestConn_HeartbeatPingsOnceAndThenFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		c := Guard(ours, limits)
		defer c.Close()
		got := make(chan []byte, 1)
		go func() {
			if _, err := theirs.Write(greeting()); err != nil {
				t.Error(err)
			}
			ping := make([]byte, 9)
			if _, err := io.ReadFull(theirs, ping); err != nil {
				t.Error(err)
			}
			got <- ping
			if _, err := theirs.Write([]byte("\x04\x05\x04PONG")); err != nil { // alive: one more round
				t.Error(err)
			}
			if _, err := io.ReadFull(theirs, ping); err != nil {
				t.Error(err)
			}
		}()
		if _, err := io.ReadFull(c, make([]byte, len(greeting()))); err != nil {
			t.Fatal(err)
		}
		c.Heartbeat(10 * time.Second)
		start := time.Now()
		if _, err := io.ReadFull(c, make([]byte, 7)); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("PING after %s", d)
		}
		if ping := <-got; string(ping) != "\x04\x07\x04PING\x00\x00" {
			t.Errorf("sent %q", ping)
		}
		_, err := c.Read(make([]byte, 1))
		if d := time.Since(start); !errors.Is(err, ErrSilent) || d < 29*time.Second || d > 30*time.Second {
			t.Errorf("after %s: %v", d, err)
		}
	})
}

func FuzzConn(f *testing.F) {
	f.Add(frame(greeting(), 0, 400), uint64(1))
	f.Add(frame(frame(greeting(), flagMore, 0), flagMore|flagLong, 9), uint64(2))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		c := guarded(b, seed)
		out, err := io.ReadAll(c)
		if !bytes.HasPrefix(b, out) {
			t.Fatal("bytes changed")
		}
		if err == nil && len(out) != len(b) {
			t.Fatal("bytes lost")
		}
		if c.out > c.framing.seen || c.framing.whole > c.framing.seen {
			t.Fatalf("out %d, whole %d, seen %d", c.out, c.framing.whole, c.framing.seen)
		}
	})
}
