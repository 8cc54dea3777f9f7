package carry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A stream is bytes that tell their own place, so that a missing or doubled one
// is seen at once: they repeat after a number of bytes that no queue holds.
type stream struct{ at int }

var pattern = func() []byte {
	b := make([]byte, 1048573)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}()

// next calls f with the next n bytes, in pieces.
func (s *stream) next(n int, f func([]byte) error) error {
	for n > 0 {
		at := s.at % len(pattern)
		piece := pattern[at:min(at+n, len(pattern))]
		if err := f(piece); err != nil {
			return err
		}
		s.at += len(piece)
		n -= len(piece)
	}
	return nil
}

// check compares what came with what must come.
func (s *stream) check(b []byte) error {
	return s.next(len(b), func(want []byte) error {
		if !bytes.Equal(b[:len(want)], want) {
			return fmt.Errorf("what came after %d bytes is wrong", s.at)
		}
		b = b[len(want):]
		return nil
	})
}

// A talk is what both ends of a link say to each other, checked byte by byte.
type talk struct {
	ends [2]*net.TCPConn
	all  sync.WaitGroup

	mu   sync.Mutex
	errs []error

	moved [2]int64 // what arrived from each leg
}

// start has an end send in its manner until the time is over, and the other one
// check it.
func (k *talk) start(from Leg, until time.Time, write, read manners) {
	var sent atomic.Int64
	s := stream{at: 1000 * rand.IntN(1000)}
	began := s.at
	k.all.Go(func() {
		s := s
		for time.Now().Before(until) && write != silent {
			if err := s.next(write.size(), func(b []byte) error {
				_, err := k.ends[from].Write(b)
				return err
			}); err != nil {
				k.fail(fmt.Errorf("writing after %d bytes: %w", s.at-began, err))
				return
			}
			write.rest()
		}
		sent.Store(int64(s.at - began))
		_ = k.ends[from].CloseWrite()
	})
	k.all.Go(func() {
		b := make([]byte, 64<<10)
		for {
			n, err := k.ends[1-from].Read(b)
			if err := s.check(b[:n]); err != nil {
				k.fail(err)
				return
			}
			if errors.Is(err, io.EOF) {
				if int64(s.at-began) != sent.Load() {
					k.fail(fmt.Errorf("%d bytes came, %d were sent", s.at-began, sent.Load()))
				}
				k.moved[from] = sent.Load()
				return
			}
			if err != nil {
				k.fail(fmt.Errorf("reading after %d bytes: %w", s.at-began, err))
				return
			}
			read.rest()
		}
	})
}

func (k *talk) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.errs = append(k.errs, err)
}

// The manners in which an end sends and reads.
type manners int

const (
	fast manners = iota
	slow
	chatting
	silent
)

func (m manners) size() int {
	if m == chatting {
		return 1 + rand.IntN(200)
	}
	return 1 + rand.IntN(64<<10)
}

func (m manners) rest() {
	switch m {
	case slow:
		time.Sleep(time.Millisecond)
	case chatting:
		time.Sleep(2 * time.Millisecond)
	}
}

// talks starts two conversations of every kind; each is to end by itself soon
// after the time given.
func talks(until time.Time, ends func() [2]*net.TCPConn) []*talk {
	var all []*talk
	for _, kind := range []struct{ up, upRead, down, downRead manners }{
		{up: fast, down: fast},
		{up: silent, down: fast}, // half closed
		{up: fast, upRead: slow, down: fast, downRead: slow},
		{up: chatting, down: chatting},
		{up: fast, down: chatting},
	} {
		for range 2 {
			k := &talk{ends: ends()}
			k.start(Near, until, kind.up, kind.upRead)
			k.start(Far, until, kind.down, kind.downRead)
			all = append(all, k)
		}
	}
	return all
}

// wait waits for every talk to end and says what went wrong. It reports the
// rounds of takeOver it took meanwhile.
func wait(t *testing.T, all []*talk, takeOver func()) (rounds int) {
	t.Helper()
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for _, k := range all {
			k.all.Wait()
		}
		close(done)
	})
	limit := time.After(6 * longEnough)
	for over := false; !over; {
		select {
		case <-done:
			over = true
		case <-limit:
			for _, k := range all {
				k.ends[Near].Close()
				k.ends[Far].Close()
			}
			t.Error("it is stuck")
			<-done
			over = true
		case <-time.After(time.Duration(1+rand.IntN(15)) * time.Millisecond):
			takeOver()
			rounds++
		}
	}
	watch.Wait()
	for i, k := range all {
		for _, err := range k.errs {
			t.Errorf("talk %d: %v", i, err)
		}
	}
	return rounds
}

// Carriers come and go under load, each one dropped at a random moment as by a
// crash, the next one with copies of the descriptors whose pipes are known by
// their write ends only: no byte is missing or doubled, and the counts are right.
func TestTakeOver(t *testing.T) {
	l := listenHere(t)
	var kept []*Pair // what a store would hold
	carrier, stop := serve(t)
	all := talks(time.Now().Add(2*time.Second), func() [2]*net.TCPConn {
		k := newLink(t, l)
		k.pair.Counts = &Counts{}
		kept = append(kept, copyOf(t, k.pair))
		if err := carrier.Add(k.pair); err != nil {
			t.Fatal(err)
		}
		return [2]*net.TCPConn{k.near, k.far}
	})
	rounds := wait(t, all, func() {
		stop()
		carrier, stop = serve(t)
		for _, k := range kept { // those that have ended, too
			next := copyOf(t, k)
			reopen(t, next)
			if err := carrier.Add(next); err != nil {
				t.Fatal(err)
			}
		}
	})
	eventually(t, "all pairs have ended", func() bool { return carrier.Open() == 0 })
	stop()
	var moved int64
	for i, k := range kept {
		k.close()
		up, down := k.Count()
		if up != all[i].moved[Near] || down != all[i].moved[Far] {
			t.Errorf("talk %d: %d and %d bytes are counted, %v arrived", i, up, down, all[i].moved)
		}
		moved += up + down
	}
	if rounds < 20 {
		t.Errorf("only %d carriers took over", rounds)
	}
	t.Logf("%d carriers took over, %d MiB went through", rounds, moved>>20)
}

// What is in a pipe at a take-over arrives though nothing more is said.
func TestBytesInThePipeArrive(t *testing.T) {
	for leg := Near; leg <= Far; leg++ {
		c, l := carry(t), listenHere(t)
		k := newLink(t, l)
		pipe := [2]Pipe{k.pair.Up, k.pair.Down}[leg]
		if _, err := unix.Write(pipe.Write, []byte("in the pipe")); err != nil {
			t.Fatal(err)
		}
		if err := c.Add(k.pair); err != nil {
			t.Fatal(err)
		}
		hear(t, k.end(1-leg), "in the pipe")
		say(t, k.end(leg), " and after")
		hear(t, k.end(1-leg), " and after")
	}
}

// serve starts a carrier that stop drops, as a crash would: without a word.
func serve(t *testing.T) (*Carrier, func()) {
	t.Helper()
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var loop sync.WaitGroup
	loop.Go(func() { _ = c.Serve(ctx) })
	return c, func() {
		cancel()
		loop.Wait()
		c.Close()
	}
}

// childEnv makes the test binary a carrier of the pairs that it was given as
// descriptors 3, 4...: near, far, and the write ends of up and down of each.
const childEnv = "CARRY_TEST_CHILD"

func child() {
	c, err := New()
	if err != nil {
		panic(err)
	}
	var n int
	_, _ = fmt.Sscan(os.Getenv(childEnv), &n)
	for i := range n {
		fd := 3 + 4*i
		p := &Pair{Sockets: [2]int{fd, fd + 1}, Up: Pipe{-1, fd + 2}, Down: Pipe{-1, fd + 3}}
		for _, pipe := range []*Pipe{&p.Up, &p.Down} {
			if pipe.Read, err = unix.Open("/proc/self/fd/"+itoa(pipe.Write), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
				panic(err)
			}
		}
		if err := c.Add(p); err != nil {
			panic(err)
		}
	}
	_ = c.Serve(context.Background())
}

// The same with processes that are really killed.
func TestTakeOverFromTheKilled(t *testing.T) {
	l := listenHere(t)
	var files []*os.File
	all := talks(time.Now().Add(2*time.Second), func() [2]*net.TCPConn {
		k := newLink(t, l)
		for _, fd := range []int{k.pair.Sockets[Near], k.pair.Sockets[Far], k.pair.Up.Write, k.pair.Down.Write} {
			files = append(files, os.NewFile(uintptr(fd), ""))
		}
		unix.Close(k.pair.Up.Read)
		unix.Close(k.pair.Down.Read)
		return [2]*net.TCPConn{k.near, k.far}
	})
	start := func() *exec.Cmd {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), fmt.Sprint(childEnv, "=", len(files)/4))
		cmd.ExtraFiles, cmd.Stderr = files, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	running := start()
	kill := func() {
		_ = running.Process.Kill()
		_ = running.Wait()
	}
	killed := 0
	wait(t, all, func() {
		if rand.IntN(8) != 0 { // a process needs a while to begin
			return
		}
		kill()
		running = start()
		killed++
	})
	kill()
	for _, f := range files {
		f.Close()
	}
	if killed < 5 {
		t.Errorf("only %d were killed", killed)
	}
	t.Logf("%d were killed", killed)
}
