package render_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"chargegate/pkg/render"
)

// echoes sends back what it is sent, as the proxy's listener would carry it, and
// notes where each caller wanted to go.
func echoes(t *testing.T, wanted *sync.Map) {
	t.Helper()
	l, err := net.Listen("tcp4", "10.83.0.1:18443")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wanted.Store(c.RemoteAddr().String(), c)
			all.Go(func() {
				defer c.Close()
				io.Copy(c, c)
			})
		}
	})
}

// original is where the kernel says that a connection wanted to go.
func original(c net.Conn) (to netip.AddrPort, err error) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return to, err
	}
	cerr := raw.Control(func(fd uintptr) {
		var m *unix.IPv6Mreq
		if m, err = unix.GetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IP, unix.SO_ORIGINAL_DST); err == nil {
			to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(m.Multiaddr[4:8])), binary.BigEndian.Uint16(m.Multiaddr[2:]))
		}
	})
	return to, errors.Join(cerr, err)
}

// stream writes a pattern and reads it back until ctx ends, and returns how many
// bytes came back as they were sent.
func stream(ctx context.Context, c net.Conn) (int64, error) {
	const block = 8192
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		buf := make([]byte, block)
		for n := uint64(0); ctx.Err() == nil; n++ {
			for i := 0; i < block; i += 8 {
				binary.BigEndian.PutUint64(buf[i:], n*block+uint64(i))
			}
			if _, err := c.Write(buf); err != nil {
				return // the reader says it
			}
			time.Sleep(time.Millisecond) // leave something of the processor to the others
		}
		c.(*net.TCPConn).CloseWrite()
	})
	buf := make([]byte, block)
	for n := uint64(0); ; n++ {
		if _, err := io.ReadFull(c, buf); err != nil {
			if errors.Is(err, io.EOF) && ctx.Err() != nil {
				return int64(n * block), nil
			}
			return int64(n * block), err
		}
		for i := 0; i < block; i += 8 {
			if got := binary.BigEndian.Uint64(buf[i:]); got != n*block+uint64(i) {
				return int64(n * block), errors.New("bytes are missing, or came twice")
			}
		}
	}
}

// While conversations run and others begin, the rules are replaced twenty times.
// No conversation ends, no call is refused, none leaks around the proxy, even
// where somebody has turned forwarding on, and what never was allowed is refused
// throughout.
func TestConversationsOutliveTheRules(t *testing.T) {
	if !apart(t) {
		return
	}
	garage(t)
	forwarding(t, "1")
	loadRules(t, small)
	serveNames(t)
	var wanted sync.Map
	echoes(t, &wanted)
	var leaked atomic.Int64
	for _, addr := range []string{"203.0.113.9:443", "203.0.113.9:8883", "203.0.113.9:80"} {
		in(t, "world", func() {
			l, err := net.Listen("tcp4", addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					leaked.Add(1)
					c.Close()
				}
			}()
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all sync.WaitGroup
	var moved [3]int64
	var old []net.Conn
	for i := range moved {
		in(t, "charger", func() {
			c, err := net.DialTimeout("tcp4", "203.0.113.9:8883", time.Second)
			if err != nil {
				t.Fatal(err)
			}
			old = append(old, c)
			all.Go(func() {
				defer c.Close()
				var err error
				if moved[i], err = stream(ctx, c); err != nil {
					t.Errorf("stream %d broke after %d bytes: %v", i, moved[i], err)
				}
			})
		})
	}
	var called, late, refused atomic.Int64
	all.Go(func() { // calls that begin, at half the rate that one device may
		for ctx.Err() == nil {
			in(t, "charger", func() {
				began := time.Now()
				c, err := net.DialTimeout("tcp4", "203.0.113.9:443", 5*time.Second)
				if err != nil {
					t.Errorf("a call that began meanwhile: %v", err)
					return
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(5 * time.Second))
				if _, err := c.Write([]byte("?")); err == nil {
					_, err = c.Read(make([]byte, 1))
				}
				if err != nil {
					t.Errorf("a call that began meanwhile was not served: %v", err)
				}
				if called.Add(1); time.Since(began) > 500*time.Millisecond {
					late.Add(1) // its first packet was lost
				}
			})
			time.Sleep(20 * time.Millisecond)
		}
	})
	all.Go(func() { // what is not allowed
		for ctx.Err() == nil {
			in(t, "charger", func() {
				d := net.Dialer{Timeout: 5 * time.Second}
				if _, err := d.Dial("tcp4", "203.0.113.9:80"); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("another port: %v, want a reset", err)
				}
			})
			refused.Add(1)
			time.Sleep(100 * time.Millisecond)
		}
	})
	dir := t.TempDir()
	if _, err := render.Write(dir, files(t, small)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for range 20 {
		time.Sleep(50 * time.Millisecond)
		command(t, "nft -f "+filepath.Join(dir, "nftables.conf"))
	}
	took := time.Since(began)
	// What the kernel remembers of a conversation is not part of the rules.
	for _, c := range old {
		server, ok := wanted.Load(c.LocalAddr().String())
		if !ok {
			t.Fatal("the server does not know its caller")
		}
		if to, err := original(server.(net.Conn)); err != nil || to.String() != "203.0.113.9:8883" {
			t.Errorf("the conversation was with %s now, %v", to, err)
		}
	}
	stop()
	all.Wait()
	for i, n := range moved {
		if n < 1<<18 {
			t.Errorf("stream %d moved %d bytes only", i, n)
		}
	}
	if n := leaked.Load(); n > 0 {
		t.Errorf("%d calls went around the proxy", n)
	}
	if called.Load() < 10 || refused.Load() < 5 {
		t.Errorf("%d calls and %d refusals are too few to tell anything", called.Load(), refused.Load())
	}
	t.Logf("20 reloads in %s: %d bytes carried, %d calls began, of which %d sent their first packet twice; %d refused as ever",
		took.Round(time.Millisecond), moved[0]+moved[1]+moved[2], called.Load(), late.Load(), refused.Load())
}

// The rules are new, and so are their sets. Whoever asked too fast may ask again,
// and of a question that was on its way to another server the answer may be lost:
// whoever asks once more, from the same port and in any order, gets it.
func TestQuestionsOutliveTheRules(t *testing.T) {
	if !apart(t) {
		return
	}
	garage(t)
	loadRules(t, small)
	serveNames(t)
	order := []string{"8.8.8.8", "10.83.0.1", "1.1.1.1"}
	for range 3 {
		in(t, "charger", func() {
			for local := 40_000; local < 40_003; local++ {
				askInOrder(t, local, "53", order)
				askInOrder(t, local, "123", order)
			}
		})
		dir := t.TempDir()
		if _, err := render.Write(dir, files(t, small)); err != nil {
			t.Fatal(err)
		}
		command(t, "nft -f "+filepath.Join(dir, "nftables.conf"))
		for _, o := range listRules(t).Objects {
			if o.Set != nil && len(o.Set.Elem) > 0 {
				t.Errorf("set %s still holds %d", o.Set.Name, len(o.Set.Elem))
			}
		}
	}
}
