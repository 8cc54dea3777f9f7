package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// A far is what a simulated address does with a connection.
type far struct {
	after time.Duration // until it says something
	err   error         // what it says; nil: it takes it
	mute  bool          // it never says anything
}

var (
	takes   = far{after: 10 * time.Millisecond}
	refuses = far{after: 10 * time.Millisecond, err: unix.ECONNREFUSED}
	hole    = far{mute: true}
	noWay   = far{err: unix.ENETUNREACH}
)

// An ocean is what lies behind the uplink in a test: addresses and what they do.
// It keeps who was asked and when.
type ocean struct {
	*dialler
	names *names
	start time.Time

	mu    sync.Mutex
	does  map[netip.Addr]far
	asked []string // "0s 198.51.100.1"
	conns map[*net.TCPConn]netip.Addr
}

func newOcean() *ocean {
	o := &ocean{names: &names{addrs: map[string][]netip.Addr{}}, start: time.Now(),
		does: map[netip.Addr]far{}, conns: map[*net.TCPConn]netip.Addr{}}
	o.dialler = newDialler(Config{}.withDefaults(), o.names)
	o.mayDial = func(netip.Addr) error { return nil }
	o.connect = o.ask
	return o
}

func at(n int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}) }

func (o *ocean) ask(ctx context.Context, to netip.AddrPort, by time.Time) (*net.TCPConn, error) {
	o.mu.Lock()
	f, known := o.does[to.Addr()]
	o.asked = append(o.asked, fmt.Sprintf("%s .%d", time.Since(o.start), to.Addr().As4()[3]))
	o.mu.Unlock()
	if !known {
		panic(to.String() + " is nowhere")
	}
	wait := time.Until(by)
	late := true
	if !f.mute && f.after < wait {
		wait, late = f.after, false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
	}
	if late {
		return nil, os.ErrDeadlineExceeded
	}
	if f.err != nil {
		return nil, f.err
	}
	conn := &net.TCPConn{}
	o.mu.Lock()
	o.conns[conn] = to.Addr()
	o.mu.Unlock()
	return conn, nil
}

// is makes addresses 1, 2, ... do this, and the name have them.
func (o *ocean) is(does ...far) {
	var addrs []netip.Addr
	o.mu.Lock()
	for i, f := range does {
		o.does[at(i+1)] = f
		addrs = append(addrs, at(i+1))
	}
	o.mu.Unlock()
	o.names.resolve(apiName, addrs...)
}

// call dials and says how it went: where it led or why not, and after how long.
func (o *ocean) call(ctx context.Context) string {
	began := time.Now()
	conn, err := o.dial(ctx, apiName, 443, nil)
	took := time.Since(began)
	if err != nil {
		var de *dialError
		if errors.As(err, &de) {
			return fmt.Sprintf("%s %s after %s", de.cause, de.way, took)
		}
		return fmt.Sprintf("%v after %s", err, took)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Sprintf(".%d after %s", o.conns[conn].As4()[3], took)
}

// looked returns who was asked since it was last called.
func (o *ocean) looked() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	asked := o.asked
	o.asked, o.start = nil, time.Now()
	return asked
}

// step expects one call to go like this.
func (o *ocean) step(t *testing.T, what, want string, asked ...string) {
	t.Helper()
	o.looked()
	if got := o.call(t.Context()); got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
	if diff := cmp.Diff(asked, o.looked()); diff != "" {
		t.Errorf("%s: asked (-want +got):\n%s", what, diff)
	}
}

// What one caller does, call by call.
func TestDialling(t *testing.T) {
	slow := far{after: 700 * time.Millisecond}
	tests := map[string]func(*testing.T, *ocean){
		"one address": func(t *testing.T, o *ocean) {
			o.is(takes)
			o.step(t, "first", ".1 after 10ms", "0s .1")
			o.step(t, "again", ".1 after 10ms", "0s .1")
		},
		"the next at once after a refusal, and past a black hole soon": func(t *testing.T, o *ocean) {
			o.is(refuses, hole, takes)
			o.step(t, "first", ".3 after 270ms", "0s .1", "10ms .2", "260ms .3")
			o.step(t, "again", ".3 after 10ms", "0s .3")
			o.is(hole, hole, refuses)
			o.step(t, "it refuses now", "tcp refused after 6.51s", "0s .3", "10ms .1", "260ms .2", "3.26s .1", "3.51s .2")
		},
		"one that is slow wins over one that is silent": func(t *testing.T, o *ocean) {
			o.is(slow, hole)
			o.step(t, "first", ".1 after 700ms", "0s .1", "250ms .2")
			o.step(t, "again: slow is how it is", ".1 after 700ms", "0s .1")
		},
		"one address, silent": func(t *testing.T, o *ocean) {
			o.is(hole)
			o.step(t, "first: a packet may be lost", "tcp silent after 6s", "0s .1", "3s .1")
			o.step(t, "it is known to be dead", "tcp silent after 3s", "0s .1")
			o.is(takes)
			o.step(t, "it is back", ".1 after 10ms", "0s .1")
			o.step(t, "and well", ".1 after 10ms", "0s .1")
			o.is(hole)
			o.step(t, "it was well a moment ago", "tcp silent after 3.25s", "0s .1", "250ms .1")
		},
		"one address that refuses": func(t *testing.T, o *ocean) {
			o.is(refuses)
			o.step(t, "first", "tcp refused after 10ms", "0s .1")
			o.is(takes)
			o.step(t, "it is back", ".1 after 10ms", "0s .1")
			o.is(refuses)
			o.step(t, "and gone", "tcp refused after 10ms", "0s .1")
		},
		"no way out": func(t *testing.T, o *ocean) {
			o.is(noWay, noWay)
			o.step(t, "at once", "tcp no way after 0s", "0s .1", "0s .2")
		},
		"eight seconds in all": func(t *testing.T, o *ocean) {
			does := slices.Repeat([]far{hole}, 40)
			o.is(does...)
			o.looked()
			if got := o.call(t.Context()); got != "tcp silent after 8s" {
				t.Error(got)
			}
			if n := len(o.looked()); n != len(does) {
				t.Errorf("%d were asked, want each once", n)
			}
		},
		"one that failed stands behind the others for a while": func(t *testing.T, o *ocean) {
			o.is(refuses, takes, takes)
			o.step(t, "first", ".2 after 20ms", "0s .1", "10ms .2")
			o.is(takes, refuses, takes)
			o.step(t, "the good one has gone bad", ".3 after 20ms", "0s .2", "10ms .3")
			o.is(takes, takes, refuses)
			o.step(t, "all have failed: the one that failed first", ".1 after 20ms", "0s .3", "10ms .1")
			time.Sleep(badFor)
			o.is(refuses, takes, takes)
			o.step(t, "all is forgiven", ".2 after 20ms", "0s .1", "10ms .2")
		},
		"one that let another pass stands behind it": func(t *testing.T, o *ocean) {
			o.is(hole, takes, takes)
			o.step(t, "first", ".2 after 260ms", "0s .1", "250ms .2")
			o.is(hole, refuses, takes)
			o.step(t, "the hole is not asked again", ".3 after 20ms", "0s .2", "10ms .3")
		},
		"the name moves during the call": func(t *testing.T, o *ocean) {
			o.is(hole)
			o.does[at(7)] = takes
			time.AfterFunc(time.Second, func() { o.names.resolve(apiName, at(7)) })
			o.step(t, "first", ".7 after 3.01s", "0s .1", "3s .7")
			o.step(t, "again", ".7 after 10ms", "0s .7")
		},
		"the name moves between calls": func(t *testing.T, o *ocean) {
			o.is(takes)
			o.step(t, "first", ".1 after 10ms", "0s .1")
			o.does[at(7)] = takes
			o.names.resolve(apiName, at(7))
			o.step(t, "the old address is not asked", ".7 after 10ms", "0s .7")
		},
		"where it answered the process before": func(t *testing.T, o *ocean) {
			o.is(hole, takes)
			o.remembered(apiName, at(2))
			o.step(t, "first", ".2 after 10ms", "0s .2")
		},
		"where it answered the process before, and does not now": func(t *testing.T, o *ocean) {
			o.is(takes, hole)
			o.remembered(apiName, at(2))
			o.step(t, "first", ".1 after 1.01s", "0s .2", "1s .1")
		},
		"another port has a way of its own": func(t *testing.T, o *ocean) {
			o.is(refuses, takes)
			o.step(t, "first", ".2 after 20ms", "0s .1", "10ms .2")
			if _, err := o.dial(t.Context(), apiName, 8883, nil); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff([]string{"0s .1", "10ms .2"}, o.looked()); diff != "" {
				t.Error(diff)
			}
		},
		"the room stops": func(t *testing.T, o *ocean) {
			o.is(hole, hole)
			for _, known := range []bool{false, true} {
				if known {
					o.is(takes, hole)
					o.call(t.Context())
					o.is(hole, hole)
				}
				ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
				if got := o.call(ctx); got != "context deadline exceeded after 100ms" {
					t.Errorf("known %t: %s", known, got)
				}
				stop()
			}
		},
		"no address": func(t *testing.T, o *ocean) {
			o.names.resolve(apiName)
			o.step(t, "first", "dns  after 0s")
		},
		"what the box lacks is not the address's fault": func(t *testing.T, o *ocean) {
			o.is(takes, takes)
			o.step(t, "first", ".1 after 10ms", "0s .1")
			o.does[at(1)], o.does[at(2)] = far{err: unix.EMFILE}, far{err: unix.EMFILE}
			o.step(t, "no descriptors", "tcp box after 0s", "0s .1", "0s .2")
			o.is(takes, takes)
			o.step(t, "again", ".1 after 10ms", "0s .1")
		},
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, newOcean()) })
		})
	}
}

// What a garage full of callers does after a power cut.
func TestDiallingTogether(t *testing.T) {
	const callers = 250
	together := func(t *testing.T, o *ocean) map[string]int {
		t.Helper()
		o.looked()
		var mu sync.Mutex
		went := map[string]int{}
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				how := o.call(t.Context())
				mu.Lock()
				defer mu.Unlock()
				went[how]++
			})
		}
		all.Wait()
		return went
	}
	mostly := func(t *testing.T, went map[string]int, prefix string, within time.Duration) {
		t.Helper()
		for how, n := range went {
			what, after, _ := strings.Cut(how, " after ")
			if took, err := time.ParseDuration(after); err != nil || what != prefix || took > within {
				t.Errorf("%d callers: %s; want %q within %s", n, how, prefix, within)
			}
		}
	}
	tests := map[string]func(*testing.T, *ocean){
		"all is well": func(t *testing.T, o *ocean) {
			o.is(takes)
			mostly(t, together(t, o), ".1", 20*time.Millisecond)
			if n := len(o.looked()); n != callers {
				t.Errorf("%d connections were asked for", n)
			}
			if n := len(o.conns); n != callers {
				t.Errorf("%d callers share %d connections", callers, n)
			}
		},
		"nothing is known, and the first address is dead": func(t *testing.T, o *ocean) {
			o.is(hole, takes)
			mostly(t, together(t, o), ".2", 270*time.Millisecond)
			if n := len(o.looked()); n != callers+maxSearches {
				t.Errorf("%d connections were asked for, want one each and %d in vain", n, maxSearches)
			}
		},
		"the good address is dead": func(t *testing.T, o *ocean) {
			o.is(takes, takes)
			o.call(t.Context())
			o.is(hole, takes)
			mostly(t, together(t, o), ".2", 520*time.Millisecond)
			if n := len(o.looked()); n > 2*callers+2*maxSearches {
				t.Errorf("%d connections were asked for", n)
			}
			mostly(t, together(t, o), ".2", 10*time.Millisecond)
		},
		"everything is dead": func(t *testing.T, o *ocean) {
			o.is(hole, hole, hole)
			mostly(t, together(t, o), "tcp silent", 7*time.Second)
			if n := len(o.looked()); n != 2*3*maxSearches {
				t.Errorf("%d connections were asked for", n)
			}
			mostly(t, together(t, o), "tcp silent", 3500*time.Millisecond)
			if n := len(o.looked()); n != 3*maxSearches {
				t.Errorf("%d connections were asked for when it was known", n)
			}
			o.is(hole, hole, takes)
			mostly(t, together(t, o), ".3", 600*time.Millisecond)
		},
		"everything dies": func(t *testing.T, o *ocean) {
			o.is(takes)
			o.call(t.Context())
			o.is(hole)
			mostly(t, together(t, o), "tcp silent", 3250*time.Millisecond)
			if n := len(o.looked()); n != callers+maxSearches {
				t.Errorf("%d connections were asked for", n)
			}
		},
		"the first packet of all is lost": func(t *testing.T, o *ocean) {
			o.is(takes)
			var first atomic.Bool
			ask := o.connect
			o.connect = func(ctx context.Context, to netip.AddrPort, by time.Time) (*net.TCPConn, error) {
				if first.CompareAndSwap(false, true) {
					time.Sleep(time.Second) // until the kernel sends it again
				}
				return ask(ctx, to, by)
			}
			went := together(t, o)
			if n := went[".1 after 1.01s"]; n != 1 || went[".1 after 10ms"]+went[".1 after 20ms"] != callers-1 {
				t.Errorf("%v: want one caller to wait, and no other", went)
			}
		},
		"it comes back while they wait": func(t *testing.T, o *ocean) {
			o.is(hole)
			time.AfterFunc(2*time.Second, func() { o.is(takes) })
			mostly(t, together(t, o), ".1", 3100*time.Millisecond)
		},
		"the room stops": func(t *testing.T, o *ocean) {
			o.is(hole)
			ctx, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			var all sync.WaitGroup
			for range callers {
				all.Go(func() {
					if got := o.call(ctx); got != "context deadline exceeded after 1s" {
						t.Error(got)
					}
				})
			}
			all.Wait()
		},
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOcean()
				f(t, o)
				for target, w := range o.ways {
					if w.searches != 0 || w.wanted != nil {
						t.Errorf("%v: %d searches are left, somebody waits: %t", target, w.searches, w.wanted != nil)
					}
				}
			})
		})
	}
}

// What others find is not dialled where the caller's own rule does not name it: a plain
// rule and one for TLS may lead the same name to different private addresses.
func TestJoinerKeepsToItsRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOcean()
		inside, allowed := netip.MustParseAddr("10.0.0.99"), at(1)
		o.does[inside], o.does[allowed] = takes, takes
		o.names.resolve(apiName, inside, allowed)
		var leaders sync.WaitGroup
		for range maxSearches {
			leaders.Go(func() {
				conn, err := o.dial(t.Context(), apiName, 443, []netip.Prefix{netip.PrefixFrom(inside, 32)})
				o.mu.Lock()
				defer o.mu.Unlock()
				if err != nil || o.conns[conn] != inside {
					t.Errorf("a leader came to %v, %v", o.conns[conn], err)
				}
			})
		}
		synctest.Wait()
		conn, err := o.dial(t.Context(), apiName, 443, nil)
		leaders.Wait()
		if err != nil || o.conns[conn] != allowed {
			t.Errorf("it came to %v, %v; want %s", o.conns[conn], err, allowed)
		}
		if want := append(slices.Repeat([]string{"0s .99"}, maxSearches), "10ms .1"); !slices.Equal(o.looked(), want) {
			t.Errorf("asked otherwise than %v", want)
		}
	})
}

// The usual case, a known address that answers at once, starts no goroutine and no
// timer of ours.
func TestDiallingIsCheap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOcean()
		o.is(far{})
		o.call(t.Context())
		goroutines := 0
		ask := o.connect
		o.connect = func(ctx context.Context, to netip.AddrPort, by time.Time) (*net.TCPConn, error) {
			goroutines = runtime.NumGoroutine()
			if _, timed := ctx.Deadline(); timed {
				t.Error("the context has a timer")
			}
			return ask(ctx, to, by)
		}
		before := runtime.NumGoroutine()
		if got := o.call(t.Context()); got != ".1 after 0s" {
			t.Error(got)
		}
		if goroutines != before {
			t.Errorf("%d goroutines while dialling, %d before", goroutines, before)
		}
	})
	real := newDialler(Config{}.withDefaults(), &names{addrs: map[string][]netip.Addr{apiName: {home}}})
	real.mayDial = func(netip.Addr) error { return nil }
	real.connect = func(context.Context, netip.AddrPort, time.Time) (*net.TCPConn, error) { return &net.TCPConn{}, nil }
	dial := func() { _, _ = real.dial(t.Context(), apiName, 443, nil) }
	dial()
	if n := testing.AllocsPerRun(100, dial); n > 3 {
		t.Errorf("a call costs %.0f allocations before its connection", n)
	}
}

// Whatever names are asked for, no more is remembered than the bounds.
func TestDialMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOcean()
		o.does[at(1)] = takes
		for i := range 3 * maxWays {
			name := fmt.Sprintf("n%d.example.com", i)
			o.names.resolve(name, at(1))
			if _, err := o.dial(t.Context(), name, 443, nil); err != nil {
				t.Fatal(err)
			}
			o.remembered(name, at(1))
		}
		if len(o.ways) > maxWays || len(o.kept) > maxWays {
			t.Errorf("%d ways, %d kept", len(o.ways), len(o.kept))
		}
		for i := range 300 {
			o.stumbled(target{apiName, 443}, netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), unix.ECONNREFUSED, time.Now())
		}
		if n := len(o.ways[target{apiName, 443}].bad); n != maxStumbles {
			t.Errorf("%d addresses are remembered as bad", n)
		}
	})
}

// Which addresses are never dialled, and which only for a rule that names them.
func TestOutside(t *testing.T) {
	t.Parallel()
	cfg := Config{
		Networks: []netip.Prefix{netip.MustParsePrefix("10.83.0.0/24"), netip.MustParsePrefix("10.83.1.0/24")},
		Listen:   []netip.AddrPort{netip.MustParseAddrPort("172.31.0.1:18443")},
	}
	const yes, named, no = "yes", "where a rule names it", "never"
	for addr, want := range map[string]string{
		"20.50.2.1": yes, "::ffff:20.50.2.1": yes, "192.0.2.1": yes, "198.51.100.5": yes, "203.0.113.2": yes,
		"9.255.255.255": yes, "11.0.0.0": yes, "172.15.255.255": yes, "172.32.0.0": yes, "192.167.255.255": yes, "192.169.0.0": yes,
		"100.63.255.255": yes, "100.128.0.0": yes, "223.255.255.254": yes, "198.17.255.255": yes, "198.20.0.0": yes,
		"10.84.0.1": named, "10.0.0.1": named, "192.168.1.1": named, "172.16.0.9": named, "172.31.255.1": named,
		"100.64.0.1": named, "100.127.255.255": named, "::ffff:192.168.1.1": named,
		"10.83.0.1": no, "10.83.0.255": no, "10.83.1.200": no, "::ffff:10.83.0.1": no, "172.31.0.1": no,
		"127.0.0.1": no, "127.83.0.1": no, "0.0.0.0": no, "0.1.2.3": no, "169.254.169.254": no, "169.254.0.1": no,
		"192.0.0.1": no, "198.18.0.1": no, "198.19.255.255": no,
		"224.0.0.251": no, "239.255.255.250": no, "240.0.0.1": no, "255.255.255.255": no,
		"::1": no, "2001:db8::1": no, "fe80::1": no, "fd00::1": no, "64:ff9b::a00:1": no,
	} {
		d := newDialler(cfg, nil)
		d.mayDial = func(a netip.Addr) error { return outside(cfg, a) }
		a := netip.MustParseAddr(addr)
		got := no
		all := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
		if e := (&errand{dialler: d, private: all}); e.allowed(a.Unmap()) == nil {
			got = named
		}
		if e := (&errand{dialler: d}); e.allowed(a.Unmap()) == nil {
			got = yes
		}
		if got != want {
			t.Errorf("%s is dialled: %s, want %s", addr, got, want)
		}
	}
}

// The kernel knows this box's own addresses.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{"127.0.0.1": "is this box", "127.8.9.1": "is this box"} {
		if err := elsewhere(netip.MustParseAddr(addr)); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	// The first hosts of the documentation's networks are nobody's.
	if err := elsewhere(netip.MustParseAddr("192.0.2.1")); err != nil {
		t.Error(err)
	}
}

// A name's addresses are sorted into those that may be dialled and those that may
// not; of the latter it is said why.
func TestPermitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOcean()
		office := netip.MustParseAddr("10.1.2.3")
		o.does[office], o.does[at(1)] = takes, takes
		rule := []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24")}
		dial := func(private []netip.Prefix, addrs ...netip.Addr) string {
			o.names.resolve(apiName, addrs...)
			conn, err := o.dial(t.Context(), apiName, 443, private)
			if err != nil {
				var de *dialError
				if !errors.As(err, &de) || de.cause != causeAddress {
					t.Errorf("%v: not the address", err)
				}
				return err.Error()
			}
			return o.conns[conn].String()
		}
		if got, want := dial(nil, office), "10.1.2.3 is private and the rule does not name it"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if got := dial(rule, office); got != "10.1.2.3" {
			t.Errorf("named: %q", got)
		}
		if got, want := dial(nil, office), "10.1.2.3 is private and the rule does not name it"; got != want {
			t.Errorf("it took a connection before: %q, want %q", got, want)
		}
		if got := dial(nil, office, at(1)); got != at(1).String() {
			t.Errorf("beside a public one: %q", got)
		}
	})
}

// How an attempt failed, as a technician would say it.
func TestTryInWords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err             error
		way, want, page string
	}{
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", unix.ECONNREFUSED)}, wayRefused, "198.51.100.1 refused the connection", "no server takes the connection"},
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, waySilent, "198.51.100.1 did not answer within 3s", "no server answers"},
		{unix.ETIMEDOUT, waySilent, "198.51.100.1 did not answer within 3s", "no server answers"},
		{os.NewSyscallError("connect", unix.ENETUNREACH), wayNone, "there is no way to 198.51.100.1 (network is unreachable)", "there is no way to its server"},
		{unix.EHOSTUNREACH, wayNone, "there is no way to 198.51.100.1 (no route to host)", "there is no way to its server"},
		{os.NewSyscallError("socket", unix.EMFILE), wayBox, "198.51.100.1: too many open files", "this box is out of descriptors, ports or memory"},
	} {
		err := &tryError{at(1), 3001 * time.Millisecond, tt.err}
		if wayOf(err) != tt.way || err.Error() != tt.want || faultOf(newTCPError([]error{err})).inWords() != tt.page {
			t.Errorf("%v: %q, %q, %q", tt.err, wayOf(err), err, faultOf(newTCPError([]error{err})).inWords())
		}
	}
	refused, silence, gone := &tryError{at(1), 0, unix.ECONNREFUSED}, &tryError{at(2), 3 * time.Second, os.ErrDeadlineExceeded}, &tryError{at(3), 0, unix.ENETUNREACH}
	for _, tt := range []struct {
		errs []error
		way  string
	}{
		{[]error{silence, refused, gone}, wayRefused}, {[]error{gone, silence}, waySilent}, {[]error{gone, gone}, wayNone}, {nil, waySilent}, {[]error{nil}, waySilent},
	} {
		if e := newTCPError(tt.errs); e.way != tt.way || strings.Contains(e.Error(), "\n") || e.Error() == "" {
			t.Errorf("%v: %q %q", tt.errs, e.way, e)
		}
	}
}

// A real connection is waited for no longer than allowed, and ends with ctx.
func TestConnect(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	conn, err := connect(t.Context(), netip.AddrPortFrom(home, b.port), time.Now().Add(patient))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	b.l.Close()
	if _, err := connect(t.Context(), netip.AddrPortFrom(home, b.port), time.Now().Add(patient)); wayOf(err) != wayRefused {
		t.Errorf("a closed port: %v", err)
	}
	if _, err := connect(t.Context(), netip.AddrPortFrom(home, b.port), time.Now().Add(-time.Second)); wayOf(err) != waySilent {
		t.Errorf("too late: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := connect(ctx, netip.AddrPortFrom(home, b.port), time.Now().Add(patient)); !errors.Is(err, context.Canceled) && wayOf(err) != wayRefused {
		t.Errorf("stopped: %v", err)
	}
}

// BenchmarkDial is what the usual case costs: a name whose address is known and
// answers at once. Beside it a bare connection in the same run.
func BenchmarkDial(b *testing.B) {
	back := newBackend(b, "127.0.0.1:0", echo)
	n := &names{addrs: map[string][]netip.Addr{apiName: {home}}}
	d := newDialler(Config{}.withDefaults(), n)
	d.mayDial = func(a netip.Addr) error { _ = elsewhere(a); return nil }
	for _, way := range []struct {
		name string
		do   func() (*net.TCPConn, error)
	}{
		{"bare", func() (*net.TCPConn, error) {
			dialer := net.Dialer{Timeout: 3 * time.Second, KeepAlive: -1}
			return dialer.DialTCP(b.Context(), "tcp4", netip.AddrPort{}, netip.AddrPortFrom(home, back.port))
		}},
		{"dialler", func() (*net.TCPConn, error) { return d.dial(b.Context(), apiName, back.port, nil) }},
	} {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				conn, err := way.do()
				if err != nil {
					b.Fatal(err)
				}
				reset(conn)
			}
		})
	}
	b.Run("elsewhere", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = elsewhere(at(1))
		}
	})
}
