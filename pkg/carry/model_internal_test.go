package carry

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A modelled link knows what each end must have seen in the end.
type modelled struct {
	ends   [2]*net.TCPConn
	kept   *Pair // what a store would hold
	pair   *Pair // that the carrier has
	wrote  [2]stream
	closed [2]bool // has hung up
	gone   [2]bool // has reset it: nobody reads there
	over   bool

	readers sync.WaitGroup
	seen    [2]stream
	ends2   [2]error // how reading ended; io.EOF: in good order
	wrong   [2]error

	// What must be seen at each end.
	all [2]bool    // everything that was said, not only the beginning
	end [2][]error // one of these
}

func newModelled(t *testing.T, l *net.TCPListener) *modelled {
	k := newLink(t, l)
	m := &modelled{ends: [2]*net.TCPConn{k.near, k.far}, pair: k.pair}
	k.pair.Counts, k.pair.Ended = &Counts{}, nil
	m.kept = copyOf(t, k.pair)
	for leg := range m.ends {
		m.end[leg], m.all[leg] = []error{io.EOF}, true
		m.readers.Go(func() {
			b := make([]byte, 8<<10)
			for {
				n, err := m.ends[leg].Read(b)
				if w := m.seen[leg].check(b[:n]); w != nil && m.wrong[leg] == nil {
					m.wrong[leg] = w
				}
				if err != nil {
					m.ends2[leg] = err
					return
				}
			}
		})
	}
	return m
}

// say has one end say n bytes.
func (m *modelled) say(leg Leg, n int) error {
	return m.wrote[leg].next(n, func(b []byte) error {
		_ = m.ends[leg].SetWriteDeadline(time.Now().Add(longEnough))
		_, err := m.ends[leg].Write(b)
		return err
	})
}

func (m *modelled) hangup(leg Leg) {
	m.closed[leg] = true
	m.over = m.closed[1-leg]
	_ = m.ends[leg].CloseWrite()
}

// abort resets one end; with after everything it said has left it.
func (m *modelled) abort(t *testing.T, leg Leg, after bool) {
	if after {
		fd := descriptor(t, m.ends[leg])
		eventually(t, "all has left", func() bool { return settled(fd) })
		unix.Close(fd)
	}
	m.over, m.gone[leg] = true, true
	if !m.closed[leg] {
		m.all[1-leg] = after
		m.end[1-leg] = []error{unix.ECONNRESET}
	} else { // the end may have been heard before
		m.end[1-leg] = []error{io.EOF, unix.ECONNRESET}
		m.all[1-leg] = false
	}
	abort(t, m.ends[leg])
}

// ask has the carrier end it.
func (m *modelled) ask(t *testing.T, c *Carrier, how manner) {
	m.over = true
	for leg := range m.ends {
		m.all[leg] = false
		m.end[leg] = []error{unix.ECONNRESET}
		if m.closed[1-leg] || how == hangup {
			m.end[leg] = append(m.end[leg], io.EOF)
		}
	}
	if how == reset {
		c.Reset(m.pair, errors.New("told to"))
	} else {
		c.Hangup(m.pair, errors.New("told to"))
	}
	eventually(t, "it has ended", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.holdsLocked(m.pair)
	})
}

// judge compares what was seen with what had to be.
func (m *modelled) judge() (wrong []string) {
	for leg := range m.ends {
		if m.gone[leg] {
			continue
		}
		said, seen := m.wrote[1-leg].at, m.seen[leg].at
		ended := false
		for _, e := range m.end[leg] {
			ended = ended || errors.Is(m.ends2[leg], e)
		}
		switch {
		case m.wrong[leg] != nil:
			wrong = append(wrong, fmt.Sprintf("leg %d: %v", leg, m.wrong[leg]))
		case seen > said || m.all[leg] && seen != said:
			wrong = append(wrong, fmt.Sprintf("leg %d saw %d bytes of %d", leg, seen, said))
		case !ended:
			wrong = append(wrong, fmt.Sprintf("leg %d: the end was %v, want %v", leg, m.ends2[leg], m.end[leg]))
		}
	}
	return wrong
}

// Whatever happens in whatever order, each end sees what a direct connection
// would have shown it.
func TestRandomLives(t *testing.T) {
	for seed := range uint64(40) {
		if !t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { randomLife(t, rand.New(rand.NewPCG(seed, 5))) }) {
			return
		}
	}
}

func randomLife(t *testing.T, r *rand.Rand) {
	l := listenHere(t)
	carrier, stop := serve(t)
	var all []*modelled
	var story []string
	tell := func(format string, args ...any) { story = append(story, fmt.Sprintf(format, args...)) }
	do := func() {
		i := r.IntN(len(all) + 1)
		if i == len(all) {
			if i < 6 {
				m := newModelled(t, l)
				if err := carrier.Add(m.pair); err != nil {
					t.Fatal(err)
				}
				all = append(all, m)
				tell("%d begins", i)
			}
			return
		}
		m, leg := all[i], Leg(r.IntN(2))
		what := r.IntN(30)
		switch {
		case what == 29:
			tell("a crash")
			stop()
			carrier, stop = serve(t)
			for _, m := range all {
				m.pair = copyOf(t, m.kept)
				reopen(t, m.pair)
				if err := carrier.Add(m.pair); err != nil {
					t.Fatal(err)
				}
			}
		case m.over:
		case what < 22 && !m.closed[leg]:
			n := 1 << r.IntN(20)
			tell("%d: leg %d says %d", i, leg, n)
			if err := m.say(leg, n); err != nil {
				t.Errorf("%d: leg %d: %v", i, leg, err)
			}
		case what == 22 || what == 23:
			if !m.closed[leg] {
				tell("%d: leg %d hangs up", i, leg)
				m.hangup(leg)
			}
		case what == 24 || what == 25:
			tell("%d: leg %d resets, settled %v", i, leg, what == 24)
			m.abort(t, leg, what == 24)
		case what == 26:
			tell("%d: we reset", i)
			m.ask(t, carrier, reset)
		case what == 27:
			tell("%d: we hang up", i)
			m.ask(t, carrier, hangup)
		}
	}
	for range 120 {
		do()
	}
	for _, m := range all {
		for leg := Near; leg <= Far && !m.over; leg++ {
			if !m.closed[leg] {
				m.hangup(leg)
			}
		}
	}
	for i, m := range all {
		done := make(chan struct{})
		go func() { m.readers.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(longEnough):
			t.Errorf("%d: it is stuck", i)
			m.ends[Near].Close()
			m.ends[Far].Close()
			<-done
		}
		for _, w := range m.judge() {
			t.Errorf("%d: %s", i, w)
		}
	}
	eventually(t, "all pairs have ended", func() bool { return carrier.Open() == 0 })
	stop()
	for _, m := range all {
		m.kept.Up.Read, m.kept.Down.Read = -1, -1
		m.kept.close()
	}
	if t.Failed() {
		t.Log(strings.Join(story, "\n"))
	}
}
