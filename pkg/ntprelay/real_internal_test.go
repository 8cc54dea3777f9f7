package ntprelay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// charger7 is an address that is not loopback's own, on the loopback interface of
// a namespace of its own.
var charger7 = netip.MustParseAddr("10.83.0.7")

// apart runs a test in a network namespace of its own, on a thread that ends with
// it. Sockets and programs belong there if f itself makes them.
func apart(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with us
		var err error
		defer func() { done <- err }()
		var space netns.NsHandle
		if space, err = netns.New(); err != nil {
			return
		}
		defer space.Close()
		var lo netlink.Link
		if lo, err = netlink.LinkByName("lo"); err != nil {
			return
		}
		at := &netlink.Addr{IPNet: &net.IPNet{IP: charger7.AsSlice(), Mask: net.CIDRMask(32, 32)}}
		if err = errors.Join(netlink.LinkSetUp(lo), netlink.AddrAdd(lo, at)); err != nil {
			return
		}
		f()
	}()
	if err := <-done; err != nil {
		t.Skipf("no network namespace: %v", err)
	}
}

// from asks from an address and returns how many answers came, by kind: times,
// kisses, and silence.
func from(t *testing.T, who netip.Addr, at netip.AddrPort, times int) (given, kissed, silent int) {
	t.Helper()
	c, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(who, 0)), net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	in := make([]byte, 1024)
	for range times {
		q := request()
		if _, err := c.Write(q); err != nil {
			t.Error(err)
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(150 * time.Millisecond))
		n, err := c.Read(in)
		switch {
		case err != nil:
			silent++
			continue
		case in[1] == 0:
			kissed++
		default:
			given++
		}
		checkAnswer(t, q, in[:n])
	}
	return given, kissed, silent
}

func TestWhoAsksTooOftenIsToldOnce(t *testing.T) {
	log := event.New(event.Options{Keep: 10})
	s := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:0")}, Rate: 1}, charger.NewBook(nil, nil), log)
	s.watch = func(context.Context) (reading, error) { return goodReading(time.Now()), nil }
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	apart(t, func() {
		if err := s.Listen(); err != nil {
			t.Error(err)
			return
		}
		port := s.Addrs()[0].Port()
		go func() { end <- s.Serve(ctx) }()
		until(t, "the clock is known", func() bool { return s.Clock().Synchronised })
		if given, kissed, silent := from(t, charger7, netip.AddrPortFrom(charger7, port), 40); given < 16 || kissed != 1 || silent == 0 || given+kissed+silent != 40 {
			t.Errorf("40 requests: %d times, %d kisses, %d silences; want 16 times and some, a kiss, and silence", given, kissed, silent)
		}
		here := netip.MustParseAddr("127.0.0.1")
		if given, _, _ := from(t, here, netip.AddrPortFrom(here, port), 40); given != 40 {
			t.Errorf("this box itself was answered %d times of 40", given)
		}
	})
	cancel()
	if t.Skipped() {
		return
	}
	if err := <-end; err != nil {
		t.Error(err)
	}
	var seen uint64
	if said := (&room{log: log}).events(&seen); strings.Join(said, " ") != "ntprelay-synchronised ntprelay-asked-too-often" {
		t.Errorf("said %v", said)
	}
}

// chronyd starts the real one, which touches no clock, and returns it running.
func chronyd(t *testing.T, dir, name, config string) *exec.Cmd {
	t.Helper()
	file := filepath.Join(dir, name+".conf")
	config += fmt.Sprintf("\npidfile %s/%s.pid\n", dir, name)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Error(err)
		return nil
	}
	cmd := exec.Command(chronydPath(), "-d", "-x", "-u", "root", "-f", file)
	out, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		t.Error(err)
		return nil
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return nil
	}
	return cmd
}

// chronydPath finds chronyd also where an ordinary user's PATH does not look.
func chronydPath() string {
	for _, at := range []string{"chronyd", "/usr/sbin/chronyd"} {
		if path, err := exec.LookPath(at); err == nil {
			return path
		}
	}
	return ""
}

func end(c *exec.Cmd) {
	if c != nil && c.Process != nil {
		_ = c.Process.Kill()
		_ = c.Wait() // it was killed
	}
}

// A real chronyd that follows another one: it is believed, missed when it is
// stopped or killed, and believed again.
func TestRealChronyd(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	if chronydPath() == "" {
		t.Skip("there is no chronyd here")
	}
	dir := t.TempDir()
	log := event.New(event.Options{Keep: 50})
	s := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}}, charger.NewBook(nil, nil), log)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	apart(t, func() {
		const follows = `server 127.0.0.2 minpoll -4 maxpoll -2
server 127.0.0.9 minpoll -4 maxpoll -2
port 0
cmdport 323
bindcmdaddress 127.0.0.1`
		source := chronyd(t, dir, "source", "local stratum 2\nallow all\ncmdport 0\nbindcmdaddress /\nbindaddress 127.0.0.2")
		defer end(source)
		watch, sources := s.watch, s.sources.ask
		// The conversation with chronyd belongs to this thread's namespace.
		calls, answers := make(chan func(), 1), make(chan struct{})
		here := func(f func()) { calls <- f; <-answers }
		s.watch = func(ctx context.Context) (r reading, err error) {
			here(func() { r, err = watch(ctx) })
			return r, err
		}
		s.sources.ask = func(ctx context.Context) (l []Source, err error) {
			here(func() { l, err = sources(ctx) })
			return l, err
		}
		end1 := make(chan error, 1)
		if err := s.Listen(); err != nil {
			t.Error(err)
			return
		}
		at := s.Addrs()[0]
		go func() { end1 <- s.Serve(ctx) }()
		// waiting serves the calls until something is so.
		waiting := func(what string, is func() bool) {
			t.Helper()
			deadline, tick := time.After(20*time.Second), time.NewTicker(20*time.Millisecond)
			defer tick.Stop()
			for !is() {
				select {
				case f := <-calls:
					f()
					answers <- struct{}{}
				case <-tick.C:
				case <-deadline:
					t.Errorf("waited too long until %s; the clock: %+v", what, s.Clock())
					return
				}
			}
		}
		knows := func(want bool) func() bool { return func() bool { return s.Clock().Synchronised == want } }
		given := func(want int) {
			t.Helper()
			if n, _, _ := from(t, netip.MustParseAddr("127.0.0.1"), at, 3); n != want {
				t.Errorf("%d of 3 were answered, want %d", n, want)
			}
		}

		waiting("it is missed", func() bool { return s.Clock().Reason == "chronyd does not run" })
		given(0)
		gw := chronyd(t, dir, "gw", follows)
		defer func() { end(gw) }()
		waiting("it is synchronised", knows(true))
		given(3)
		waiting("there are sources", func() bool {
			asked := make(chan []Source, 1)
			go func() { asked <- s.Sources(ctx) }()
			for {
				select {
				case list := <-asked:
					s.sources.mu.Lock()
					s.sources.asked = time.Time{}
					s.sources.mu.Unlock()
					return len(list) == 2 && list[0].State == Selected && list[0].Heard && list[0].Reach == 0xff && list[0].Name == "127.0.0.2" && list[0].Stratum == 2 &&
						list[1].State == Unreachable && list[1].Reach == 0 && list[1].Address == "127.0.0.9" && !list[1].Heard
				case f := <-calls:
					f()
					answers <- struct{}{}
				}
			}
		})
		if gw == nil {
			return
		}
		_ = gw.Process.Signal(syscall.SIGSTOP)
		waiting("a chronyd that is stopped is missed", knows(false))
		if got := s.Clock().Reason; got != "chronyd does not answer" {
			t.Errorf("the reason is %q", got)
		}
		given(0)
		_ = gw.Process.Signal(syscall.SIGCONT)
		waiting("it goes on", knows(true))
		given(3)
		end(gw)
		waiting("a chronyd that was killed is missed", knows(false))
		given(0)
		gw = chronyd(t, dir, "gw", follows)
		waiting("another is there", knows(true))
		given(3)
		cancel()
		for ended := false; !ended; {
			select {
			case f := <-calls:
				f()
				answers <- struct{}{}
			case err := <-end1:
				ended = true
				if err != nil {
					t.Error(err)
				}
			}
		}
	})
	var seen uint64
	said := strings.Join((&room{log: log}).events(&seen), " ")
	for _, want := range []string{"ntprelay-synchronised", "ntprelay-lost"} {
		if !t.Skipped() && !strings.Contains(said, want) {
			t.Errorf("said %s, and not %s", said, want)
		}
	}
}
