package e2e

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/zmqpub"
)

// bus is a publisher in this process that remembers what it sent, by second and topic. One goroutine uses it.
type bus struct {
	t         testing.TB
	publisher *zmqpub.Publisher
	port      int
	run, text string
	sent      int64
	rows      map[string]int64 // by "end of the second,topic"
}

// newBus listens. So many messages wait for a subscriber that does not read, and each has a text of so many bytes that
// can't be compressed.
func newBus(t testing.TB, queue, bytes int) *bus {
	t.Helper()
	publisher, err := zmqpub.Listen(zmqpub.Options{Queue: queue})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = publisher.Close() }) // nothing is expected of it any more
	_, number, _ := strings.Cut(publisher.Address(), ":")
	p, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	random := make([]byte, bytes/2)
	_, _ = rand.Read(random) // never fails
	return &bus{t: t, publisher: publisher, port: p, run: fmt.Sprintf("%x", time.Now().UnixNano()), text: hex.EncodeToString(random), rows: map[string]int64{}}
}

// waitSubscribed waits until a daemon listens.
func (b *bus) waitSubscribed() {
	b.t.Helper()
	if err := poll(20*time.Second, func() error {
		if b.publisher.Connected() == 0 {
			return errors.New("nobody has subscribed")
		}
		return nil
	}); err != nil {
		b.t.Fatal(err)
	}
}

// publish sends at a rate, evenly, until stop says so; it is asked some hundred times a second.
func (b *bus) publish(rate int, stop func() bool) {
	begin, n := time.Now(), 0
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !stop() {
		now := <-tick.C
		for ; n < int(time.Since(begin).Seconds()*float64(rate)); n++ {
			b.one(now)
		}
	}
}

func (b *bus) publishFor(rate int, during time.Duration) {
	end := time.Now().Add(during)
	b.publish(rate, func() bool { return time.Now().After(end) })
}

// one sends a message. The text is shifted from one to the next, so that the archive can't fold them into one.
func (b *bus) one(now time.Time) {
	b.sent++
	topic := fmt.Sprintf("org.fedoraproject.dev.bus.e2e.change%d", b.sent%7)
	cut := int(b.sent*31) % max(1, len(b.text))
	b.publisher.Publish(topic, fmt.Appendf(nil, `{"i":%d,"msg":{"text":"%s%s"},"msg_id":"2026-%s-%d","timestamp":%d,"topic":"%s"}`,
		b.sent, b.text[cut:], b.text[:cut], b.run, b.sent, now.Unix(), topic))
	b.rows[fmt.Sprintf("%d,%s", now.Unix()+1, topic)]++ // rows carry the end of their window
}

// check compares the rows of the finest interval with what was sent: none missing, none too much, each in its second.
// Everything that was sent must have reached the daemon's socket.
func (b *bus) check(d *daemon) {
	b.t.Helper()
	b.checkAmong(d, false)
}

// checkAmong is check; with others, the daemon also has rows of other publishers' topics.
func (b *bus) checkAmong(d *daemon, others bool) {
	b.t.Helper()
	if dropped := b.publisher.Dropped(); dropped != 0 {
		b.t.Fatalf("the publisher itself dropped %d messages: its queue is too short for this test", dropped)
	}
	got := map[string]int64{}
	for i, line := range strings.Split(strings.TrimSuffix(d.rows("volume-by-topic-1s", 1_000_000), "\n"), "\n") {
		if i == 0 && line == "timestamp,topic,volume" {
			continue
		}
		at, n, ok := cutLast(line)
		if !ok {
			b.t.Fatalf("row %q", line)
		}
		if !others || strings.Contains(at, ",org.fedoraproject.dev.bus.") {
			got[at] = n
		}
	}
	wrong := 0
	for row, n := range b.rows {
		if got[row] != n {
			if wrong++; wrong <= 5 {
				b.t.Errorf("row %s: %d, want %d", row, got[row], n)
			}
		}
	}
	for row, n := range got {
		if b.rows[row] == 0 {
			if wrong++; wrong <= 5 {
				b.t.Errorf("row %s: %d, want none", row, n)
			}
		}
	}
	if wrong > 0 {
		b.t.Errorf("%d rows of %d are wrong", wrong, len(b.rows))
	}
}

// cutLast cuts the number at the end off a row.
func cutLast(line string) (rest string, n int64, ok bool) {
	at := strings.LastIndexByte(line, ',')
	if at < 0 {
		return "", 0, false
	}
	n, err := strconv.ParseInt(line[at+1:], 10, 64)
	return line[:at], n, err == nil
}
