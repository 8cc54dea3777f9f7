package garage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"chargegate/pkg/sim"
)

// What the story of the handover is made of. The chargers' own conversations are
// among the sessions.
const (
	handoverChargers = 40
	handoverSessions = 250
	handoverFirst    = 80 // more than the carrier keeps pipes of
	handoverStreams  = 25
	handoverSlow     = 8 // of the streams have readers that are slow
	handoverRounds   = 20
	handoverCheap    = 60 // more rounds with what is left, for the leak; the race detector takes its time to start a daemon
	handoverCheapest = 10
	streamHost       = sim.Plain
)

// TestHandover replaces the daemon again and again, politely and by SIGKILL, while
// chargers talk with the hub and streams run at full speed: nobody loses a
// conversation or a byte, and nothing is left behind.
func TestHandover(t *testing.T) {
	patient := sim.Brisk()
	patient.KeepAlive = 24 * time.Second // a ping may take half of it: with streams at full speed on two CPUs some do take a while
	apart(t, sim.Options{
		Networks: []sim.Network{{Name: "P1", Chargers: handoverChargers}},
		Habits:   patient, Plain: []string{streamHost}, NameRate: 1000, LogLevel: "debug",
	}, handover)
}

func handover(t *testing.T) {
	garage.PowerOn()
	if err := garage.WaitOnline(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	openSessions(t, handoverFirst).end(t) // their pipes are kept for others, as those of the last ones will be
	eventually(t, 10*time.Second, "the first sessions are forgotten", func() (bool, string) {
		n := garage.Gateway.Holder.Held("conv-")
		return n == 4*handoverChargers, fmt.Sprintf("%d descriptors", n)
	})
	quiet := openFiles(t)
	sessions := openSessions(t, handoverSessions-handoverChargers)
	streams := openStreams(t)
	eventually(t, 20*time.Second, "every conversation is kept", func() (bool, string) {
		n := garage.Gateway.Holder.Held("conv-")
		return n == 4*(handoverSessions+handoverStreams), fmt.Sprintf("%d descriptors", n)
	})
	keptFiles := garage.Gateway.Holder.Held("")
	came := online()

	for _, how := range []struct {
		name    string
		replace func(context.Context) (time.Duration, error)
	}{
		{"restart", garage.Gateway.Restart},
		{"SIGKILL", garage.Gateway.Crash},
	} {
		var longest time.Duration
		sessions.paused()
		streams.paused()
		for round := range handoverRounds {
			time.Sleep(rand.N(200 * time.Millisecond))
			gone, err := how.replace(within(t, 30*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			longest = max(longest, gone)
			if round > 2 {
				continue // looking takes time, in which nothing is random
			}
			if stuck, err := garage.Stuck(within(t, 10*time.Second)); err != nil || len(stuck) > 0 {
				t.Fatalf("right after a %s the daemon does not see everybody at ok: %v, %v", how.name, stuck, err)
			}
		}
		time.Sleep(200 * time.Millisecond)
		t.Logf("%d × %s: nobody there for %s at most; the longest wait for a ping %s, for the next bytes of a stream %s; %d MB so far",
			handoverRounds, how.name, longest.Round(time.Millisecond), sessions.paused().Round(time.Millisecond),
			streams.paused().Round(time.Millisecond), streams.moved.Load()>>20)
	}
	if n := garage.Gateway.Holder.Held(""); n != keptFiles {
		t.Errorf("the holder has %d descriptors, %d before", n, keptFiles)
	}
	streams.end(t)
	garage.Cloud.Witness.Forget() // the streams
	eventually(t, 10*time.Second, "the streams are forgotten", func() (bool, string) {
		n := garage.Gateway.Holder.Held("conv-")
		return n == 4*handoverSessions, fmt.Sprintf("%d descriptors", n)
	})
	wentOn(t)
	if n := online() - came; n != 0 {
		t.Errorf("%d chargers are said to have come online, though they were so all the time", n)
	}
	counted(t, streams)
	more := handoverCheap
	if raceEnabled {
		more = handoverCheapest
	}
	for i := range more {
		replace := garage.Gateway.Restart
		if i%2 == 0 {
			replace = garage.Gateway.Crash
		}
		if _, err := replace(within(t, 30*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	sessions.end(t)
	for _, v := range garage.Views() {
		if v.Conversations != 1 || v.Stage != sim.OK {
			t.Errorf("%s stands at %s and has begun %d conversations, want 1: %s", v.Name, v.Stage, v.Conversations, v.Trouble)
		}
	}
	eventually(t, 10*time.Second, "as many descriptors as at first", func() (bool, string) {
		held, files := garage.Gateway.Holder.Held("conv-"), openFiles(t)
		return held == 4*handoverChargers && files <= quiet+2, fmt.Sprintf("the holder has %d, the daemon %d, before %d", held, files, quiet)
	})
}

// online counts how often a charger was said to have come online.
func online() (n int) {
	for _, e := range garage.Gateway.Events() {
		if e.ID == "charger-online" {
			n++
		}
	}
	return n
}

// wentOn looks at what the daemons said of it.
func wentOn(t *testing.T) {
	t.Helper()
	for _, e := range garage.Gateway.Events() {
		switch {
		case e.ID == "handover-conversations-lost", e.ID == "handover-keep-failed",
			e.ID == "handover-conversations" && e.Fields["LOST"] != "0":
			t.Errorf("%s", e.Message)
		}
	}
}

// counted wants every byte of the streams in the daemon's own account, over all of
// its lives, and none twice.
func counted(t *testing.T, streams *talkers) {
	t.Helper()
	ended, up, down := 0, int64(0), int64(0)
	for _, e := range garage.Gateway.Events() {
		if e.ID == "egress-ended" && e.Fields["NAME"] == streamHost {
			ended++
			up, down = up+number(t, e.Fields["UP"]), down+number(t, e.Fields["DOWN"])
		}
	}
	up -= handoverStreams * int64(len(preamble))
	if wantUp, wantDown := streams.up.Load(), streams.moved.Load()-streams.up.Load(); ended != handoverStreams || up != wantUp || down != wantDown {
		t.Errorf("the daemons counted %d streams with %d bytes up and %d down, want %d with %d and %d", ended, up, down, handoverStreams, wantUp, wantDown)
	}
	t.Logf("%d bytes went up and %d came down, all as they were sent, and all counted", up, down)
}

func number(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func openFiles(t *testing.T) int {
	t.Helper()
	n, err := sim.OpenFiles(garage.Gateway.Daemon.PID())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// talkers are many who run until they are asked to end, and the longest that one
// of them had to wait.
type talkers struct {
	stop    chan struct{}
	wg      sync.WaitGroup
	longest atomic.Int64
	moved   atomic.Int64 // bytes that arrived
	up      atomic.Int64 // those of them that went up

	mu     sync.Mutex
	failed []error
	close  []func()
}

func (s *talkers) waited(d time.Duration) {
	for {
		was := s.longest.Load()
		if int64(d) <= was || s.longest.CompareAndSwap(was, int64(d)) {
			return
		}
	}
}

// paused returns the longest wait since the last call.
func (s *talkers) paused() time.Duration { return time.Duration(s.longest.Swap(0)) }

// go runs f, whose error is told at the end.
func (s *talkers) run(f func() error) {
	s.wg.Go(func() {
		if err := f(); err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.failed = append(s.failed, err)
		}
	})
}

// end asks all of them to end, waits, and tells what went wrong.
func (s *talkers) end(t *testing.T) {
	t.Helper()
	close(s.stop)
	s.wg.Wait()
	for i, err := range s.failed {
		if i == 10 {
			t.Errorf("and %d more", len(s.failed)-i)
			break
		}
		t.Error(err)
	}
	for _, f := range s.close {
		f()
	}
}

// openSessions opens conversations with the hub, in which pings are answered all
// the time.
func openSessions(t *testing.T, n int) *talkers {
	t.Helper()
	all := &talkers{stop: make(chan struct{})}
	ctx := within(t, 2*time.Minute)
	opened := make([]*sim.Session, n)
	var opening sync.WaitGroup
	var failed atomic.Pointer[error]
	for first := range 8 {
		opening.Go(func() {
			for i := first; i < n; i += 8 {
				c := garage.Chargers[i%len(garage.Chargers)]
				s, err := c.Session(ctx, fmt.Sprintf("%s-%d", c.Serial, i))
				if err != nil {
					failed.Store(&err)
					return
				}
				opened[i] = s
			}
		})
	}
	opening.Wait()
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
	for i, s := range opened {
		all.close = append(all.close, s.Close)
		all.run(func() error {
			for {
				select {
				case <-all.stop:
					return nil
				case <-time.After(200*time.Millisecond + rand.N(300*time.Millisecond)):
				}
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				took, err := s.Ping(ctx)
				cancel()
				if err != nil {
					return fmt.Errorf("session %d: %w", i, err)
				}
				all.waited(took)
			}
		})
	}
	return all
}

// pattern is what streams are made of, again and again. Its length is no multiple
// of anything, so that a byte missing or doubled moves all that follow.
var pattern = func() []byte {
	b := make([]byte, 1<<20+7)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return append(b, b...)
}()

// from returns up to n bytes of the stream id from position at on.
func from(id int, at int64, n int) []byte {
	period := int64(len(pattern) / 2)
	start := (at + int64(id)*40_009) % period
	return pattern[start : start+int64(n)]
}

const (
	streamTalk = 64 << 10 // how much is said at once
	preamble   = "GET / HTTP/1.1\r\nHost: " + streamHost + "\r\n\r\n"
)

// A stream is one end of a conversation in which both say as much as they can and
// compare what they hear.
type stream struct {
	id   int
	conn *net.TCPConn
	slow bool
	all  *talkers
}

// speak says the stream of its id until asked to end, and returns how much that was.
func (s *stream) speak(id int) (int64, error) {
	var at int64
	for {
		select {
		case <-s.all.stop:
			return at, s.conn.CloseWrite()
		default:
		}
		n, err := s.conn.Write(from(id, at, streamTalk))
		if at += int64(n); err != nil {
			return at, fmt.Errorf("stream %d after %d bytes: %w", id, at, err)
		}
	}
}

// listen hears the stream of an id to its end, and returns how much that was.
func (s *stream) listen(id int) (int64, error) {
	var at int64
	buf := make([]byte, streamTalk)
	last := time.Now()
	for {
		if s.slow {
			select {
			case <-s.all.stop:
			case <-time.After(5 * time.Millisecond):
			}
		}
		n, err := s.conn.Read(buf)
		if !bytes.Equal(buf[:n], from(id, at, n)) {
			return at, fmt.Errorf("stream %d: other bytes than were sent, from %d on", id, at)
		}
		at += int64(n)
		s.all.moved.Add(int64(n))
		if !s.slow {
			s.all.waited(time.Since(last))
		}
		last = time.Now()
		if errors.Is(err, io.EOF) {
			return at, nil
		}
		if err != nil {
			return at, fmt.Errorf("stream %d after %d bytes: %w", id, at, err)
		}
	}
}

// openStreams opens the streams. What goes up has the id of the stream, what comes
// down that of the stream and 100 more.
func openStreams(t *testing.T) *talkers {
	t.Helper()
	all := &talkers{stop: make(chan struct{})}
	var l net.Listener
	err := garage.Cloud.Space.Do(func() (err error) {
		l, err = net.Listen("tcp4", fmt.Sprintf("%s:%d", sim.ElsewhereIP, sim.OCPPPort))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all.close = append(all.close, func() { l.Close() })
	for i := range handoverStreams {
		// Those that have one session less than the others.
		c := garage.Chargers[len(garage.Chargers)-1-i]
		near, err := c.Dial(within(t, 30*time.Second), streamHost, sim.OCPPPort)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(near, preamble); err != nil {
			t.Fatal(err)
		}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		far := conn.(*net.TCPConn)
		if _, err := io.ReadFull(far, make([]byte, len(preamble))); err != nil {
			t.Fatal(err)
		}
		all.close = append(all.close, func() { near.Close(); far.Close() })
		for _, conn := range []*net.TCPConn{near, far} {
			conn.SetDeadline(time.Now().Add(3 * time.Minute))
		}
		slow := i < handoverSlow
		all.both(&stream{i, near, slow && i%2 == 0, all}, &stream{i, far, slow && i%2 == 1, all}, i)
		all.both(&stream{i, far, false, all}, &stream{i, near, false, all}, i+100)
	}
	return all
}

// both runs one direction of a stream: what one said the other must have heard.
func (s *talkers) both(speaker, listener *stream, id int) {
	said := make(chan int64, 1)
	s.run(func() error {
		n, err := speaker.speak(id)
		said <- n
		return err
	})
	s.run(func() error {
		heard, err := listener.listen(id)
		if id < 100 {
			s.up.Add(heard)
		}
		if n := <-said; err == nil && heard != n {
			err = fmt.Errorf("stream %d: %d bytes were sent, %d arrived", id, n, heard)
		}
		return err
	})
}
