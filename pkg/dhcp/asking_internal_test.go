package dhcp

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A quiz is an asking whose edges are its fields.
type quiz struct {
	asking
	mutex   sync.Mutex
	due     []netip.Addr // what next gives
	sent    []string     // what was asked, with when
	free    []string     // what nobody answered for, with when
	missed  atomic.Uint64
	noLink  atomic.Bool
	failing atomic.Bool
	began   time.Time
}

func newQuiz(due ...string) *quiz {
	q := &quiz{began: time.Now()}
	for _, a := range due {
		q.due = append(q.due, ip(a))
	}
	note := func(list *[]string, addr netip.Addr) {
		q.mutex.Lock()
		defer q.mutex.Unlock()
		*list = append(*list, time.Since(q.began).String()+" "+addr.String())
	}
	q.nudged = make(chan struct{}, 1)
	q.next = func(now time.Time) (netip.Addr, time.Time) {
		q.mutex.Lock()
		defer q.mutex.Unlock()
		if len(q.due) == 0 {
			return netip.Addr{}, now.Add(time.Minute)
		}
		addr := q.due[0]
		q.due = q.due[1:]
		return addr, now
	}
	q.silent = func(addr netip.Addr, _ time.Time) { note(&q.free, addr) }
	q.ask = func(addr netip.Addr) error {
		note(&q.sent, addr)
		if q.failing.Load() {
			return errors.New("no buffer space")
		}
		return nil
	}
	q.blind = func() uint64 { return q.missed.Load() }
	q.dark = func() bool { return q.noLink.Load() }
	return q
}

// also makes one more address due.
func (q *quiz) also(addr netip.Addr) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	q.due = append(q.due, addr)
}

// story lets the asking run, does what is to be done at a time, and ends after
// five minutes.
func (q *quiz) story(t *testing.T, at time.Duration, do func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); q.run(ctx) }()
	time.Sleep(at)
	synctest.Wait()
	do()
	time.Sleep(5 * time.Minute)
	cancel()
	<-ended
	if len(q.open) > 0 {
		t.Errorf("%d questions are open at the end", len(q.open))
	}
}

func TestAsking(t *testing.T) {
	t.Parallel()
	const a, b = "10.83.0.9", "10.83.0.10"
	twice := []string{"0s " + a, "250ms " + a}
	for _, tt := range []struct {
		name string
		at   time.Duration
		do   func(q *quiz)
		sent []string
		free []string
	}{
		{"nobody answers", 0, func(*quiz) {}, twice, []string{"1s " + a}},
		{"somebody answers at once", 10 * time.Millisecond, func(q *quiz) { q.answered(ip(a)) }, twice, nil},
		{"somebody answers late", 999 * time.Millisecond, func(q *quiz) { q.answered(ip(a)) }, twice, nil},
		{"somebody answers for another", 10 * time.Millisecond, func(q *quiz) { q.answered(ip(b)) }, twice, []string{"1s " + a}},
		{"frames are lost", 500 * time.Millisecond, func(q *quiz) { q.missed.Add(1) }, twice, nil},
		{"frames are lost afterwards", 1500 * time.Millisecond, func(q *quiz) { q.missed.Add(1) }, twice, []string{"1s " + a}},
		{"the second question cannot be sent", 100 * time.Millisecond, func(q *quiz) { q.failing.Store(true) }, twice, nil},
		{"one more is to be asked about at once", 10 * time.Second, func(q *quiz) { q.also(ip(b)); q.nudge(); q.nudge() },
			append(slices.Clone(twice), "10s "+b, "10.25s "+b), []string{"1s " + a, "11s " + b}},
		{"one more is due within the minute", 10 * time.Second, func(q *quiz) { q.also(ip(b)) },
			append(slices.Clone(twice), "1m1s "+b, "1m1.25s "+b), []string{"1s " + a, "1m2s " + b}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := newQuiz(a)
				q.story(t, tt.at, func() { tt.do(q) })
				if diff := cmp.Diff(tt.sent, q.sent); diff != "" {
					t.Errorf("asked (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(tt.free, q.free); diff != "" {
					t.Errorf("free (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestNothingIsAskedWithoutACarrier(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newQuiz("10.83.0.9")
		q.noLink.Store(true)
		q.story(t, time.Minute, func() {
			q.mutex.Lock()
			defer q.mutex.Unlock()
			if len(q.sent) > 0 || len(q.due) == 0 {
				t.Errorf("asked %v", q.sent)
			}
			q.noLink.Store(false)
		})
		if len(q.free) != 1 {
			t.Errorf("asked %v, free %v", q.sent, q.free)
		}
	})
}

// A pool of a thousand is asked about in ten seconds, a hundred addresses a
// second, and never more than those of one second are open.
func TestAskingKeepsItsPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newQuiz()
		for addr := ip("10.83.0.2"); len(q.due) < 1000; addr = addr.Next() {
			q.due = append(q.due, addr)
		}
		most := 0
		ask := q.ask
		q.ask = func(addr netip.Addr) error {
			q.mu.Lock()
			most = max(most, len(q.open))
			q.mu.Unlock()
			return ask(addr)
		}
		q.story(t, 9*time.Second, func() {
			q.mutex.Lock()
			defer q.mutex.Unlock()
			if n := len(q.sent); n < 1700 || n > 1900 {
				t.Errorf("%d questions in nine seconds", n)
			}
		})
		if len(q.free) != 1000 || len(q.sent) != 2000 || most > 101 {
			t.Errorf("%d free, %d questions, %d open at once", len(q.free), len(q.sent), most)
		}
	})
}

func TestPace(t *testing.T) {
	t.Parallel()
	p := pace{most: 3}
	now := epoch
	for i, want := range []time.Duration{0, 0, 800 * time.Millisecond, 0, 0, 800 * time.Millisecond} {
		if got := p.next(now); got != want {
			t.Errorf("frame %d: rests %s, want %s", i, got, want)
		}
		now = now.Add(100*time.Millisecond + want)
	}
}
