package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/internal/eventually"
	"github.com/statscache/statscache/store"
)

// withTopics makes blocks as sample does, with the events at some positions having topics that end in a word.
func withTopics(seed uint64, blocks, size int, words map[uint64]string) []*block.Block {
	out := sample(rand.New(rand.NewPCG(seed, 9)), blocks, size)
	for _, b := range out {
		for i := range b.Time {
			if w := words[b.Seq(i)]; w != "" {
				b.Topic[i] = named(b, "org.x.prod.cat1."+w)
				b.Category[b.Topic[i]] = named(b, "cat1")
			}
		}
	}
	return out
}

// named gives a name's index in a block, which gets the name where it has none.
func named(b *block.Block, name string) uint32 {
	if i := slices.Index(b.Names, name); i >= 0 {
		return uint32(i)
	}
	b.Names, b.Category = append(slices.Clone(b.Names), name), append(slices.Clone(b.Category), 0)
	return uint32(len(b.Names) - 1)
}

// present gives those of the positions that sample has not made holes of.
func present(blocks []*block.Block, want ...uint64) map[uint64]bool {
	out := map[uint64]bool{}
	for _, b := range blocks {
		for i := range b.Time {
			if slices.Contains(want, b.Seq(i)) {
				out[b.Seq(i)] = true
			}
		}
	}
	return out
}

func TestRunner_PluginFailsMidBatch_CountsOnce(t *testing.T) {
	for _, word := range []string{"once-kill", "once-exit", "once-hang", "once-stop"} {
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			blocks := withTopics(1, 12, 100, map[uint64]string{550: word, 551: word, 552: word})
			m := newMemory()
			m.add("s", blocks...)
			limits := quick()
			limits.Deadline = time.Second
			p := program(t, "moody", "ONCE_FILE="+filepath.Join(t.TempDir(), "once"))
			h, stop := runHost(t, Options{Programs: []Program{p}, Store: m, Feed: feedOf{m}, Limits: limits})
			waitCaughtUp(t, h, m.ends())
			s := h.Plugins()[0]
			stop()
			sameRows(t, m.counters, brute("moody", 1, blocks, nil))
			if s.Restarts != 1 || s.DeadLetters != 0 || len(m.dead) != 0 {
				t.Errorf("%d restarts, %d dead letters: %v", s.Restarts, s.DeadLetters, m.dead)
			}
		})
	}
}

func TestRunner_KilledAgainAndAgain_CountsOnceAndLeavesNoGoroutine(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	blocks := sample(rand.New(rand.NewPCG(20, 1)), 60, 100)
	m := newMemory()
	m.shortest = 2
	r := rand.New(rand.NewPCG(20, 2))
	add := 0
	for add < len(blocks) {
		h, stop := runHost(t, Options{Programs: []Program{program(t, "volume")}, Store: m, Feed: feedOf{m}, Limits: quick()})
		for range 4 {
			n := min(add+1+r.IntN(8), len(blocks))
			m.add("s", blocks[add:n]...)
			add = n
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond) // so that it strikes anywhere
			if pid := h.Plugins()[0].PID; pid != 0 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if add == len(blocks) {
			waitCaughtUp(t, h, m.ends())
		}
		stop()
	}
	sameRows(t, m.counters, brute("volume", 1, blocks, nil))
	if len(m.dead) > 0 {
		t.Errorf("dead letters: %v", m.dead)
	}
}

func TestRunner_PoisonEvents_BecomeDeadLettersAndInnocentsAreCounted(t *testing.T) {
	for _, word := range []string{"exit", "hang", "panic"} {
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			positions, size := []uint64{1, 333, 334, 1200}, 100
			if word == "hang" { // every step takes a deadline
				positions, size = []uint64{1, 33, 150}, 16
			}
			words := map[uint64]string{}
			for _, p := range positions {
				words[p] = word
			}
			blocks := withTopics(2, 12, size, words)
			m := newMemory()
			m.add("s", blocks...)
			limits := quick()
			limits.Deadline = 200 * time.Millisecond
			h, stop := runHost(t, Options{Programs: []Program{program(t, "moody")}, Store: m, Feed: feedOf{m}, Limits: limits})
			waitCaughtUp(t, h, m.ends())
			s := h.Plugins()[0]
			stop()
			poison := present(blocks, positions...)
			got := map[uint64]bool{}
			for _, d := range m.dead {
				got[d.Seq] = true
				if d.ID == "" || d.Error == "" || d.Stream != "s" {
					t.Errorf("dead letter %+v", d)
				}
			}
			if len(m.dead) != len(poison) || fmt.Sprint(got) != fmt.Sprint(poison) || s.DeadLetters != len(poison) || len(poison) < 2 {
				t.Errorf("dead letters %v, want %v; status %+v", m.dead, poison, s)
			}
			if word == "panic" && s.Restarts != 0 {
				t.Errorf("%d restarts for a panic that the SDK takes care of", s.Restarts)
			}
			sameRows(t, m.counters, brute("moody", 1, blocks, poison))
		})
	}
}

func TestRunner_WrongAnswers_AreThePluginsFault(t *testing.T) {
	for mode := range lies() {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			blocks := sample(rand.New(rand.NewPCG(5, 5)), 2, 3)
			m := newMemory()
			m.add("s", blocks...)
			honest := fmt.Sprint("HONEST_US=", blocks[0].Time[0]) // the answer to the first batch: the plugin can
			h, stop := runHost(t, Options{Programs: []Program{program(t, "wrong-"+mode, honest)}, Store: m, Feed: feedOf{m}, Limits: quick()})
			if mode == "answers-twice" { // noticed too late to blame the batch: what it answered first was right
				until(t, func() bool { return h.Plugins()[0].Restarts > 0 })
			} else {
				waitCaughtUp(t, h, m.ends())
			}
			s := h.Plugins()[0]
			stop()
			if mode == "answers-twice" {
				return
			}
			if len(m.counters) != 1 || len(m.puts) != 0 {
				t.Errorf("something was counted: %v %v", m.counters, m.puts)
			}
			if len(m.dead) != blocks[1].Len() || s.Restarts == 0 {
				t.Errorf("%d dead letters of %d, status %+v", len(m.dead), blocks[1].Len(), s)
			}
		})
	}
}

// until polls for what a real process does.
func until(t testing.TB, ok func() bool) {
	t.Helper()
	eventually.True(t, 30*time.Second, "it happens", ok)
}

// lines is a log that tests look into.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func TestRunner_OutputFlood_IsCutAndBoundedAndChangesNothing(t *testing.T) {
	blocks := sample(rand.New(rand.NewPCG(6, 6)), 3, 100)
	m := newMemory()
	m.add("s", blocks...)
	log := new(lines)
	h, stop := runHost(t, Options{Programs: []Program{program(t, "flood")}, Store: m, Feed: feedOf{m}, Limits: quick(), Logger: slog.New(slog.NewTextHandler(log, nil))})
	waitCaughtUp(t, h, m.ends())
	stop()
	sameRows(t, m.counters, brute("flood", 1, blocks, nil))
	text := log.String()
	if !strings.Contains(text, "I am not the handshake") || !strings.Contains(text, "prints too much") || strings.Contains(text, strings.Repeat("out", maxLine/3+2)) {
		t.Errorf("log of %d bytes: %.300s", len(text), text)
	}
	if n := strings.Count(text, "plugin output"); n > 3*lineBurst {
		t.Errorf("%d lines were logged", n)
	}
}

func TestRunner_FailsToStart_IsQuarantinedWithTheReason(t *testing.T) {
	for _, c := range []struct {
		name   string
		reason string
		edit   func(*Program)
	}{
		{"exits", "my database is gone", nil},
		{"wrong-describe-hangs", "no answer in 2s", nil},
		{"wrong-never-ready", "not ready in 2s", nil},
		{"no-such-file", "no such file", func(p *Program) { p.Argv = []string{"/nonexistent/plugin"} }},
		{"no-handshake", "no plugin", func(p *Program) { p.Argv = []string{"/bin/echo", "no plugin"} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMemory()
			m.add("s", sample(rand.New(rand.NewPCG(6, 6)), 1, 10)...)
			limits := quick()
			limits.StartFailures = 3
			if strings.HasPrefix(c.name, "wrong-") {
				limits.Start = 2 * time.Second // these take all of it
			}
			p := program(t, c.name)
			if c.edit != nil {
				c.edit(&p)
			}
			h, _ := runHost(t, Options{Programs: []Program{p, program(t, "volume")}, Store: m, Feed: feedOf{m}, Limits: limits})
			until(t, func() bool { return h.Plugins()[0].State == Quarantined })
			s := h.Plugins()[0]
			if !strings.Contains(s.Error, c.reason) || s.Restarts != 2 || s.PID != 0 {
				t.Errorf("status %+v", s)
			}
			if h.Plugins()[1].State == Quarantined {
				t.Errorf("the other plugin suffers: %+v", h.Plugins()[1])
			}
		})
	}
}

func TestRunner_Environment_HasNothingOfTheHosts(t *testing.T) {
	t.Setenv("SECRET_PASSWORD", "hunter2")
	m := newMemory()
	log := new(lines)
	h, stop := runHost(t, Options{Programs: []Program{program(t, "environment", "GIVEN=yes")}, Store: m, Feed: feedOf{m}, Limits: quick(), Logger: slog.New(slog.NewTextHandler(log, nil))})
	until(t, func() bool { return h.Plugins()[0].Restarts > 0 })
	stop()
	text := log.String()
	if strings.Contains(text, "hunter2") || !strings.Contains(text, "GIVEN=yes") || !strings.Contains(text, "GOMAXPROCS=1") {
		t.Error(text)
	}
}

func gone(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(data), ") Z ")
}

func childOf(t *testing.T, file string) int {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(data))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestRunner_ChildrenOfPlugins_EndWithThem(t *testing.T) {
	file := filepath.Join(t.TempDir(), "child")
	m := newMemory()
	m.add("s", sample(rand.New(rand.NewPCG(6, 6)), 1, 10)...)
	h, stop := runHost(t, Options{Programs: []Program{program(t, "parent", "CHILD_FILE="+file)}, Store: m, Feed: feedOf{m}, Limits: quick()})
	waitCaughtUp(t, h, m.ends())
	pid := h.Plugins()[0].PID
	child := childOf(t, file)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return gone(pid) && gone(child) && h.Plugins()[0].Restarts == 1 })
	until(t, func() bool { return h.Plugins()[0].State == Running })
	child = childOf(t, file)
	stop()
	until(t, func() bool { return gone(child) }) // it was sent SIGKILL before stop returned
}

func TestHost_Killed_LeavesNoProcessesAndTheNextOneCleansUp(t *testing.T) {
	dir, err := os.MkdirTemp("", "sc")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "HOST_TEST_PLUGIN=host", "RUN_DIR="+dir, "CHILD_FILE="+filepath.Join(dir, "child"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid, other int
	if _, err := fmt.Fscan(out, &pid, &other); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	defer func() { _ = syscall.Kill(childOf(t, filepath.Join(dir, "child")), syscall.SIGKILL) }() // nobody's group leader is left to take it along
	until(t, func() bool { return gone(pid) && gone(other) })
	homes := func() int {
		list, _ := filepath.Glob(filepath.Join(dir, homePrefix+"*"))
		return len(list)
	}
	if homes() != 1 {
		t.Fatalf("%d homes: the test is about one that was left behind", homes())
	}
	first, err := New(Options{RunDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if homes() != 1 {
		t.Errorf("%d homes after a new host's start", homes())
	}
	second, err := New(Options{RunDir: dir}) // beside the first: its home is left alone
	if err != nil {
		t.Fatal(err)
	}
	if homes() != 2 {
		t.Errorf("%d homes of two hosts", homes())
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if homes() != 0 {
		t.Errorf("%d homes in the end", homes())
	}
}

func TestLane_StoreUnavailable_KeepsEverythingAndPausesFeeding(t *testing.T) {
	blocks := sample(rand.New(rand.NewPCG(8, 8)), 40, 100)
	m := newMemory()
	m.shortest = 1
	m.add("s", blocks[:1]...)
	limits := quick()
	limits.MaxCells = 1000
	h, stop := runHost(t, Options{Programs: []Program{program(t, "volume")}, Store: m, Feed: feedOf{m}, Limits: limits})
	waitCaughtUp(t, h, m.ends())
	m.setFail(fmt.Errorf("%w: for the test", store.ErrUnavailable))
	m.add("s", blocks[1:]...)
	until(t, func() bool { return strings.Contains(h.Plugins()[0].Error, "for the test") })
	m.setFail(nil)
	waitCaughtUp(t, h, m.ends())
	stop()
	if s := h.Plugins()[0]; s.Restarts != 0 {
		t.Errorf("status %+v", s)
	}
	sameRows(t, m.counters, brute("volume", 1, blocks, nil))
}

func TestLane_CommitFailsOddly_StartsOverFromWhatIsCommitted(t *testing.T) {
	blocks := sample(rand.New(rand.NewPCG(8, 9)), 10, 100)
	m := newMemory()
	m.shortest = 1
	for i, b := range blocks {
		m.add("s", b)
		m.mu.Lock()
		m.odd = map[bool]error{true: errors.New("connection reset")}[i%4 == 1]
		m.mu.Unlock()
		if i == 0 {
			h, stop := runHost(t, Options{Programs: []Program{program(t, "volume")}, Store: m, Feed: feedOf{m}, Limits: quick()})
			defer func() {
				waitCaughtUp(t, h, m.ends())
				until(t, func() bool { return h.Plugins()[0].State == Running })
				s := h.Plugins()[0]
				stop()
				if s.Restarts == 0 || s.Error != "" || len(m.dead) > 0 {
					t.Errorf("status %+v", s)
				}
				sameRows(t, m.counters, brute("volume", 1, blocks, nil))
			}()
		}
		until(t, func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.odd == nil })
	}
}

func TestLane_Fenced_StopsWithAnError(t *testing.T) {
	m := newMemory()
	m.add("s", sample(rand.New(rand.NewPCG(8, 8)), 1, 10)...)
	h, _ := runHost(t, Options{Programs: []Program{program(t, "volume")}, Store: m, Feed: feedOf{m}, Limits: quick()})
	waitCaughtUp(t, h, m.ends())
	if _, err := m.Checkpoint(context.Background(), store.CheckpointKey{Plugin: "volume", Generation: 1, Stream: "s"}); err != nil {
		t.Fatal(err)
	}
	more := sample(rand.New(rand.NewPCG(9, 8)), 1, 10)
	more[0].First, more[0].Upto, more[0].Seqs = 11, 10+uint64(more[0].Len()), nil
	m.add("s", more...)
	until(t, func() bool { return h.Plugins()[0].State == Quarantined })
	if s := h.Plugins()[0]; !strings.Contains(s.Error, store.ErrFenced.Error()) || s.PID != 0 {
		t.Errorf("status %+v", s)
	}
}
