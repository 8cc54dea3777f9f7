package carry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestBytesGoBothWays(t *testing.T) {
	c, l := carry(t), listenHere(t)
	k := carried(t, c.Carrier, l)
	say(t, k.near, "hello")
	hear(t, k.far, "hello")
	say(t, k.far, "good day")
	hear(t, k.near, "good day")
	eventually(t, "5 bytes up and 8 down are counted", func() bool {
		up, down := k.pair.Count()
		return up == 5 && down == 8
	})
}

// A side that has nothing more to say still hears the other one out; the pair
// ends when both have said all, and whoever was first hung up.
func TestHalfClose(t *testing.T) {
	for _, first := range []Leg{Near, Far} {
		t.Run([]string{"near first", "far first"}[first], func(t *testing.T) {
			c, l := carry(t), listenHere(t)
			k := carried(t, c.Carrier, l)
			one, other := k.end(first), k.end(1-first)
			say(t, one, "question")
			_ = one.CloseWrite()
			hear(t, other, "question")
			if n := hearEnd(t, other, nil); n != 0 {
				t.Errorf("%d bytes more than were said", n)
			}
			eventually(t, "half of it is known to be over", k.pair.Half)
			k.open(t)
			answer := strings.Repeat("answer", 100_000)
			go func() {
				say(t, other, answer)
				_ = other.CloseWrite()
			}()
			hear(t, one, answer)
			hearEnd(t, one, nil)
			if e := k.ending(t); e.Err != nil || e.Leg != first || e.Asked {
				t.Errorf("it ended %+v, want a good end by %v", e, first)
			}
			if n := c.Open(); n != 0 {
				t.Errorf("%d pairs are open, want none", n)
			}
		})
	}
}

// Every way to end is heard by both sides at once, also while somebody else
// holds copies of all descriptors, which keeps a close from telling anybody.
func TestEndsAreHeardWhileACopyIsHeld(t *testing.T) {
	errTold := errors.New("told to")
	for _, tt := range []struct {
		name    string
		end     func(*testing.T, *Carrier, *link)
		want    Ending
		to      [2]error // what each side hears
		resets  bool     // and it is reset for good, not half closed
		skipped [2]bool
	}{
		{name: "both hang up", end: func(t *testing.T, _ *Carrier, k *link) {
			_ = k.near.CloseWrite()
			hearEnd(t, k.far, nil)
			_ = k.far.CloseWrite()
		}, want: Ending{Leg: Near}},
		{name: "the near one resets", end: func(t *testing.T, _ *Carrier, k *link) { abort(t, k.near) },
			want: Ending{Leg: Near, Err: unix.ECONNRESET}, to: [2]error{nil, unix.ECONNRESET}, skipped: [2]bool{true, false}},
		{name: "the far one resets", end: func(t *testing.T, _ *Carrier, k *link) { abort(t, k.far) },
			want: Ending{Leg: Far, Err: unix.ECONNRESET}, to: [2]error{unix.ECONNRESET, nil}, skipped: [2]bool{false, true}},
		{name: "we reset", end: func(_ *testing.T, c *Carrier, k *link) { c.Reset(k.pair, errTold) },
			want: Ending{Err: errTold, Asked: true}, to: [2]error{unix.ECONNRESET, unix.ECONNRESET}},
		{name: "we reset after one side hung up", end: func(t *testing.T, c *Carrier, k *link) {
			_ = k.near.CloseWrite()
			hearEnd(t, k.far, nil)
			c.Reset(k.pair, errTold)
			k.skip(t, Far)
		}, want: Ending{Err: errTold, Asked: true}, to: [2]error{unix.ECONNRESET, nil}, skipped: [2]bool{false, true}},
		{name: "we hang up", end: func(_ *testing.T, c *Carrier, k *link) { c.Hangup(k.pair, errTold) },
			want: Ending{Err: errTold, Asked: true}},
		{name: "urgent data", end: func(t *testing.T, _ *Carrier, k *link) {
			raw, _ := k.near.SyscallConn()
			_ = raw.Control(func(fd uintptr) { _ = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) })
		}, want: Ending{Leg: Near, Err: ErrUrgent}, to: [2]error{unix.ECONNRESET, unix.ECONNRESET}},
	} {
		for _, held := range []bool{false, true} {
			t.Run(tt.name+map[bool]string{true: ", copies held"}[held], func(t *testing.T) {
				c, l := carry(t), listenHere(t)
				k := newLink(t, l)
				if held {
					q := copyOf(t, k.pair)
					reopen(t, q)
					t.Cleanup(q.close)
				}
				if err := c.Add(k.pair); err != nil {
					t.Fatal(err)
				}
				say(t, k.near, "x")
				hear(t, k.far, "x")
				began := time.Now()
				tt.end(t, c.Carrier, k)
				for leg := Near; leg <= Far; leg++ {
					if !tt.skipped[leg] {
						hearEnd(t, k.end(leg), tt.to[leg])
					}
				}
				if took := time.Since(began); took > patience*9/10 {
					t.Errorf("it took %v", took)
				}
				if e := k.ending(t); e.Leg != tt.want.Leg || !errors.Is(e.Err, tt.want.Err) || e.Asked != tt.want.Asked {
					t.Errorf("it ended %+v, want %+v", e, tt.want)
				}
			})
		}
	}
}

// skip waits for a reset of one that has heard the other side's end already: it
// is told when it writes.
func (k *link) skip(t *testing.T, leg Leg) {
	t.Helper()
	eventually(t, "a write is refused", func() bool {
		_, err := k.end(leg).Write([]byte{0})
		return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET)
	})
}

// What a side said before it reset the connection arrives, however much it is,
// if the other side takes it; then the reset does.
func TestLastWordsArriveBeforeTheReset(t *testing.T) {
	for name, tt := range map[string]struct{ size, room int }{
		"a few":                          {100, 0},
		"more than a pipe holds":         {300 << 10, 0},
		"more than the send queue holds": {3 << 20, 0},
		"taken in small bites, longer than patience": {300 << 10, 16 << 10}, // see listenAsOnEthernet
	} {
		t.Run(name, func(t *testing.T) {
			c, l := carry(t), listenHere(t)
			k := carried(t, c.Carrier, l)
			if tt.room > 0 {
				_ = k.near.SetReadBuffer(tt.room)
			}
			say(t, k.near, "unread")
			eventually(t, "the question is there", func() bool { up, _ := k.pair.Count(); return up == 6 })
			words := strings.Repeat("w", tt.size)
			var said sync.WaitGroup
			said.Go(func() {
				say(t, k.far, words)
				// It closes with a question unread, and that is a reset.
				eventually(t, "all of it is acknowledged", func() bool { return settled(descriptorOnce(t, k.far)) })
				k.far.Close()
			})
			said.Wait()
			hear(t, k.near, words)
			hearEnd(t, k.near, unix.ECONNRESET)
			if e := k.ending(t); e.Leg != Far || !errors.Is(e.Err, unix.ECONNRESET) {
				t.Errorf("it ended %+v", e)
			}
		})
	}
}

// Whoever does not take the last words is reset after a while, and other pairs
// are carried meanwhile.
func TestLastWordsAreNotWaitedForForLong(t *testing.T) {
	c, l := carry(t), listenHere(t)
	k, other := carried(t, c.Carrier, l), carried(t, c.Carrier, l)
	fill(t, k)
	abort(t, k.far)
	began := time.Now()
	for time.Since(began) < patience/2 {
		say(t, other.near, "ping")
		hear(t, other.far, "ping")
	}
	k.open(t)
	k.ending(t)
	if took := time.Since(began); took < patience*9/10 || took > 2*patience {
		t.Errorf("the reset came after %v, want about %v", took, patience)
	}
	hearEnd(t, k.near, unix.ECONNRESET)
}

// Whoever takes them, but slowly, is not waited for without end.
func TestLastWordsHaveATime(t *testing.T) {
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	k := carried(t, c, listenAsOnEthernet(t))
	_ = k.near.SetReadBuffer(16 << 10)
	go func() {
		_, _ = io.WriteString(k.far, strings.Repeat("w", 300<<10))
		_ = k.far.SetLinger(0)
		k.far.Close()
	}()
	for rounds := 0; !k.pair.failing; rounds++ {
		if rounds == 1000 {
			t.Fatal("the reset was not heard of")
		}
		if err := c.round(); err != nil {
			t.Fatal(err)
		}
	}
	until := k.pair.until
	hear(t, k.near, strings.Repeat("w", 64<<10))
	for rounds := 0; k.pair.until.Equal(until); rounds++ {
		if rounds == 1000 {
			t.Fatal("that it takes them gives it no time")
		}
		if err := c.round(); err != nil {
			t.Fatal(err)
		}
	}
	k.open(t)
	k.pair.last = time.Now() // its time is up
	if err := c.round(); err != nil {
		t.Fatal(err)
	}
	k.ending(t)
}

// fill writes from the far end until everything on the way to the near one is
// full.
func fill(t testing.TB, k *link) (wrote int) {
	t.Helper()
	chunk := make([]byte, 64<<10)
	for {
		_ = k.far.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := k.far.Write(chunk)
		wrote += n
		if err != nil {
			return wrote
		}
	}
}

// A full send queue keeps nobody from the other direction, and from others.
func TestABlockedDirectionBlocksNobodyElse(t *testing.T) {
	c, l := carry(t), listenHere(t)
	k, other := carried(t, c.Carrier, l), carried(t, c.Carrier, l)
	wrote := fill(t, k)
	say(t, k.near, "the other way")
	hear(t, k.far, "the other way")
	say(t, other.far, "ping")
	hear(t, other.near, "ping")
	_ = k.far.CloseWrite()
	if n := hearEnd(t, k.near, nil); n != wrote {
		t.Errorf("%d bytes arrived, %d were sent", n, wrote)
	}
}

// A reset is heard of although nobody reads from that side (it hung up before)
// and nobody writes to it.
func TestResetOfASilentSide(t *testing.T) {
	c, l := carry(t), listenHere(t)
	k := carried(t, c.Carrier, l)
	_ = k.near.CloseWrite()
	hearEnd(t, k.far, nil)
	abort(t, k.near)
	hearEnd(t, k.far, nil) // it has heard the end already
	k.skip(t, Far)
	// EPIPE is what the kernel calls a reset that comes after a FIN.
	if e := k.ending(t); e.Leg != Near || !errors.Is(e.Err, unix.EPIPE) {
		t.Errorf("it ended %+v", e)
	}
}

// The error of a reset is told once. Whoever carried the pair before may have
// taken it: a reset is still not mistaken for a good end.
func TestAnEndWhoseErrorWasTakenIsStillAReset(t *testing.T) {
	c, l := carry(t), listenHere(t)
	k := newLink(t, l)
	abort(t, k.near)
	eventually(t, "the reset has come", func() bool { return failure(k.pair.Sockets[Near]) != nil })
	if err := c.Add(k.pair); err != nil {
		t.Fatal(err)
	}
	if e := k.ending(t); e.Leg != Near || !errors.Is(e.Err, unix.ECONNRESET) {
		t.Errorf("it ended %+v", e)
	}
	hearEnd(t, k.far, unix.ECONNRESET)
}

func TestGlanceAndMoved(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	c, l := carry(t), listenHere(t)
	k := carried(t, c.Carrier, l, func(p *Pair) {
		p.Glance = func(from Leg, first []byte) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, []string{"near ", "far "}[from]+string(first))
		}
		p.Moved = func(from Leg) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, []string{"near", "far"}[from]+" moved")
		}
	})
	for range 2 {
		say(t, k.near, "0123456789")
		hear(t, k.far, "0123456789")
		say(t, k.far, "abc")
		hear(t, k.near, "abc")
	}
	mu.Lock()
	defer mu.Unlock()
	want := "near 01234567,near moved,far abc,far moved"
	if got := strings.Join(seen, ","); got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

// A fault in a callback costs its own pair, and one in Ended nothing.
func TestFaultsInCallbacks(t *testing.T) {
	c, l := carry(t), listenHere(t)
	other := carried(t, c.Carrier, l)
	for name, with := range map[string]func(*Pair){
		"Glance": func(p *Pair) { p.Glance = func(Leg, []byte) { panic("glance") } },
		"Moved":  func(p *Pair) { p.Moved = func(Leg) { panic("moved") } },
	} {
		k := carried(t, c.Carrier, l, with)
		say(t, k.near, "x")
		var fault *Fault
		if e := k.ending(t); !errors.As(e.Err, &fault) || len(fault.Stack) == 0 {
			t.Errorf("%s: it ended %+v, want a fault", name, e)
		}
		hearEnd(t, k.near, unix.ECONNRESET)
	}
	k := carried(t, c.Carrier, l, func(p *Pair) { p.Ended = func(Ending) { panic("ended") } })
	abort(t, k.near)
	hearEnd(t, k.far, unix.ECONNRESET)
	eventually(t, "three faults are counted", func() bool { return c.Panics() == 3 })
	say(t, other.near, "still here")
	hear(t, other.far, "still here")
}

// Asking twice, asking from a callback and asking after the end are one end.
func TestAnEndIsToldOnce(t *testing.T) {
	c, l := carry(t), listenHere(t)
	ended := make(chan Ending, 10)
	k := carried(t, c.Carrier, l, func(p *Pair) {
		p.Ended = func(e Ending) {
			c.Reset(p, errors.New("from Ended"))
			ended <- e
		}
	})
	first := errors.New("first")
	c.Reset(k.pair, first)
	c.Hangup(k.pair, errors.New("second"))
	if e := <-ended; e.Err != first {
		t.Errorf("it ended %+v, want the first reason", e)
	}
	c.Reset(k.pair, errors.New("late"))
	hearEnd(t, k.near, unix.ECONNRESET)
	other := carried(t, c.Carrier, l) // takes the slot that became free
	c.Reset(k.pair, errors.New("later"))
	say(t, other.near, "not meant")
	hear(t, other.far, "not meant")
	if len(ended) != 0 {
		t.Errorf("it ended again: %+v", <-ended)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.asked) != 0 || len(c.slots) != 1 {
		t.Errorf("%d requests and %d slots are kept, want 0 and 1", len(c.asked), len(c.slots))
	}
}

// An event that was told before its pair ended is not taken for one of the pair
// that has its place now, and epoll watches nothing that has ended, whoever holds
// a copy.
func TestALateEventIsNobodys(t *testing.T) {
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l := listenHere(t)
	k := newLink(t, l)
	q := copyOf(t, k.pair)
	reopen(t, q)
	defer q.close()
	if err := c.Add(k.pair); err != nil {
		t.Fatal(err)
	}
	late := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(k.pair.slot << 1), Pad: k.pair.gen}
	if c.at(late) != k.pair {
		t.Fatal("an event does not find its pair")
	}
	c.end(k.pair, Ending{}, reset)
	watched, err := os.ReadFile("/proc/self/fdinfo/" + itoa(c.epoll))
	if n := bytes.Count(watched, []byte("tfd:")); err != nil || n != 1 {
		t.Errorf("epoll watches %d descriptors, want its own one only (%v)", n, err)
	}
	other := carried(t, c, l)
	if other.pair.slot != k.pair.slot {
		t.Fatal("the place was not taken again: nothing was shown")
	}
	if c.at(late) != nil {
		t.Error("a late event found the next pair")
	}
}

// A carrier that is not served remembers one request for each pair, and nothing
// of pairs that have ended.
func TestRequestsAreBounded(t *testing.T) {
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	k := carried(t, c, listenHere(t))
	for range 1000 {
		c.Reset(k.pair, io.EOF)
	}
	if len(c.asked) != 1 {
		t.Errorf("%d requests are kept, want 1", len(c.asked))
	}
	c.Close()
	c.Reset(k.pair, io.EOF)
	if len(c.asked) != 0 {
		t.Error("a closed carrier keeps requests")
	}
}

// Serve can be called again after it returned; what happened in between is not
// lost. A second one at the same time, or one after Close, is refused.
func TestServeAgain(t *testing.T) {
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l := listenHere(t)
	var links []*link
	for i := range 10 {
		links = append(links, carried(t, c, l))
		for _, k := range links { // not served
			say(t, k.near, "abc")
		}
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error)
		go func() { served <- c.Serve(ctx) }()
		for _, k := range links {
			hear(t, k.far, "abc")
		}
		if i == 0 {
			eventually(t, "a second Serve is refused", func() bool { return c.Serve(ctx) != nil })
		}
		cancel()
		if err := <-served; err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	if err := c.Serve(context.Background()); err == nil {
		t.Error("a closed carrier serves")
	}
	k := newLink(t, l)
	if err := c.Add(k.pair); err == nil {
		t.Error("a closed carrier takes a pair")
	}
	k.pair.close()
}

// Close says nothing to anybody while somebody else holds copies, and a pair
// that could not be added is still the caller's.
func TestCloseIsSilent(t *testing.T) {
	c, l := carry(t), listenHere(t)
	k := newLink(t, l)
	q := copyOf(t, k.pair)
	if err := c.Add(k.pair); err != nil {
		t.Fatal(err)
	}
	say(t, k.near, "before")
	hear(t, k.far, "before")
	c.stop()
	k.open(t)
	say(t, k.near, "after")
	reopen(t, q)
	d := carry(t)
	if err := d.Add(q); err != nil {
		t.Fatal(err)
	}
	hear(t, k.far, "after")
}

func TestAddThatFails(t *testing.T) {
	c, l := carry(t), listenHere(t)
	k := newLink(t, l)
	far := k.pair.Sockets[Far]
	file, err := unix.MemfdCreate("file", unix.MFD_CLOEXEC) // epoll takes no such thing
	if err != nil {
		t.Fatal(err)
	}
	k.pair.Sockets[Far] = file
	if err := c.Add(k.pair); err == nil || c.Open() != 0 {
		t.Fatalf("Add: %v, %d open", err, c.Open())
	}
	k.pair.Sockets[Far] = far
	unix.Close(file)
	if err := c.Add(k.pair); err != nil {
		t.Fatal(err)
	}
	say(t, k.near, "at last")
	hear(t, k.far, "at last")
}

// Nothing is left of pairs that came and went: no descriptor, no slot, no
// memory.
func TestNothingIsLeft(t *testing.T) {
	c, l := carry(t), listenHere(t)
	before := 0
	var gone sync.WaitGroup
	for i := range 200 {
		if i == 20 {
			runtime.GC()
			before = descriptors(t)
		}
		k := carried(t, c.Carrier, l)
		gone.Add(1)
		runtime.AddCleanup(k.pair, func(struct{}) { gone.Done() }, struct{}{})
		switch i % 4 {
		case 0:
			abort(t, k.near)
		case 1:
			say(t, k.far, "last words")
			hear(t, k.near, "last words")
			abort(t, k.far)
		case 2:
			c.Reset(k.pair, io.EOF)
		case 3:
			k.near.Close()
			k.far.Close()
		}
		k.ending(t)
		k.near.Close()
		k.far.Close()
	}
	eventually(t, "all descriptors but those of spare pipes are closed", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return descriptors(t) <= before+2*len(c.spares)
	})
	if n := len(c.slots); n > 2 {
		t.Errorf("%d slots for one pair at a time", n)
	}
	all := make(chan struct{})
	go func() { gone.Wait(); close(all) }()
	eventually(t, "every pair is garbage", func() bool {
		runtime.GC()
		select {
		case <-all:
			return true
		default:
			return false
		}
	})
}

// A ping waits for one turn of one download, however many there are: what it
// waits for is counted, not timed.
func TestAPingWaitsForOneTurn(t *testing.T) {
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l := listenHere(t)
	chatty := carried(t, c, l)
	var downloads []*link
	var ends sync.WaitGroup
	for range 8 {
		k := carried(t, c, l)
		downloads = append(downloads, k)
		ends.Go(func() { _, _ = io.Copy(io.Discard, struct{ io.Reader }{k.near}) })
		ends.Go(func() {
			for chunk := make([]byte, 256<<10); ; {
				if _, err := k.far.Write(chunk); err != nil {
					return
				}
			}
		})
	}
	defer func() {
		for _, k := range downloads {
			k.near.Close()
			k.far.Close()
		}
		ends.Wait()
	}()
	grown := func(k *link) bool { return k.pair.flows[Far].grown }
	for rounds := 0; !slices.ContainsFunc(downloads, grown) || len(c.queue) < 4; rounds++ {
		if rounds == 100_000 {
			t.Fatal("the downloads never queue")
		}
		if err := c.round(); err != nil {
			t.Fatal(err)
		}
	}
	down := func() (n int64) {
		for _, k := range downloads {
			n += k.pair.Counts.Down.Load()
		}
		return n
	}
	busy := 0
	for i := range 20 {
		say(t, chatty.near, "ping")
		before := down()
		if len(c.queue) > 1 {
			busy++
		}
		rounds := 0
		for ; chatty.pair.Counts.Up.Load() != int64(4*(i+1)); rounds++ {
			if rounds > 1 {
				t.Fatalf("ping %d was not carried after %d rounds", i, rounds)
			}
			if err := c.round(); err != nil {
				t.Fatal(err)
			}
		}
		// A turn ends with the splice that completes it.
		if moved := down() - before; moved > int64(rounds)*(turn+pipeSize) {
			t.Errorf("ping %d waited for %d bytes of downloads in %d rounds", i, moved, rounds)
		}
		hear(t, chatty.far, "ping")
	}
	if busy == 0 {
		t.Error("the downloads never queued: nothing was shown")
	}
}

// A burst of small writes, each in a segment of its own, arrives whole: more
// segments than a pipe has places.
func TestManySmallSegments(t *testing.T) {
	c, l := carry(t), listenHere(t)
	k := carried(t, c.Carrier, l)
	var want bytes.Buffer
	for i := range 2000 {
		b := []byte{byte(i), byte(i >> 8)}
		want.Write(b)
		if _, err := k.near.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	hear(t, k.far, want.String())
}

// An idle pair costs its six descriptors and less than a kilobyte; no goroutine,
// no stack.
func TestWhatAnIdlePairCosts(t *testing.T) {
	const pairs = 1000
	c, l := carry(t), listenHere(t)
	links := make([]*link, pairs)
	for i := range links {
		links[i] = newLink(t, l)
		say(t, links[i].near, "hello")
		say(t, links[i].far, "hello")
	}
	memory := func() (bytes, goroutines int) {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc + m.StackInuse), runtime.NumGoroutine()
	}
	bytes, goroutines := memory()
	fds := descriptors(t)
	for _, k := range links {
		k.pair = &Pair{Sockets: k.pair.Sockets, Up: k.pair.Up, Down: k.pair.Down} // its memory counts, too
		if err := c.Add(k.pair); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range links { // each of them has carried something
		hear(t, k.near, "hello")
		hear(t, k.far, "hello")
	}
	bytesNow, goroutinesNow := memory()
	each := float64(bytesNow-bytes) / pairs
	t.Logf("%.0f bytes and 6 descriptors for each pair", each+float64(unsafe.Sizeof(Pair{})))
	if each+float64(unsafe.Sizeof(Pair{})) > 1024 || goroutinesNow != goroutines || descriptors(t) != fds {
		t.Errorf("%.0f bytes for each pair, %d goroutines (%d before), %d descriptors (%d before)",
			each, goroutinesNow, goroutines, descriptors(t), fds)
	}
	runtime.KeepAlive(links)
}

// A pipe serves one pair after the other, unless something is left in it.
func TestPipesServeAgain(t *testing.T) {
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	pair := func(held int) *Pair {
		p := &Pair{}
		for _, pipe := range []*Pipe{&p.Up, &p.Down} {
			if *pipe, err = c.NewPipe(); err != nil {
				t.Fatal(err)
			}
		}
		p.flows[Far].held = held
		return p
	}
	first := pair(0)
	c.leftBehind(first)
	second := pair(1)
	if second.Down != first.Up || second.Up != first.Down {
		t.Errorf("after %v and %v the next pair has %v and %v, want the same", first.Up, first.Down, second.Up, second.Down)
	}
	c.leftBehind(second)
	if len(c.spares) != 1 || c.spares[0] != second.Up {
		t.Errorf("of %v, empty, and %v, which holds something, %v are kept", second.Up, second.Down, c.spares)
	}
	for range maxSpares {
		c.leftBehind(pair(0))
	}
	many := make([]*Pair, maxSpares)
	for i := range many {
		many[i] = pair(0)
	}
	for _, p := range many {
		c.leftBehind(p)
	}
	if len(c.spares) != maxSpares {
		t.Errorf("%d spare pipes are kept, want %d", len(c.spares), maxSpares)
	}
}
