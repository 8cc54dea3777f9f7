package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"chargegate/test/vm/wire"
)

// A watcher sees which interface comes up when and what is sent by radio, and
// tries, from outside and from the garage, whether anything of the gateway answers.
type watcher struct {
	mu   sync.Mutex
	seen wire.Watched

	stop chan struct{}
	over sync.WaitGroup
	ends []io.Closer
}

var watching *watcher

// prober is a device that tries everything: where it is, who it is, and whom it asks.
type prober struct {
	space, own, gateway string
	bits                int
}

var probers = []prober{
	{"cloud", "203.0.113.66", "203.0.113.2", 24},
	{"site", "10.83.16.250", "10.83.16.1", 24},
}

// What is tried: whatever a box like this one may have open, and what it has.
var (
	tcpPorts = []int{22, 53, 80, 111, 323, 443, 1883, 3000, 5355, 8080, 8443, 8883, 9090, 9100, 9180}
	udpPorts = []int{53, 67, 68, 69, 111, 123, 161, 323, 5353, 5355}
)

// pace is how long it takes to try everything once.
const pace = 200 * time.Millisecond

// monotonic is the time since the kernel started.
func monotonic() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// watch begins, where the kernel's command line asks for it.
func watch() error {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil || !strings.Contains(string(line), "lab.watch") {
		return err
	}
	w := &watcher{stop: make(chan struct{}), seen: wire.Watched{Up: map[string]time.Duration{}, Rounds: map[string]int{}, Answers: map[string]map[string]wire.Answered{}}}
	watching = w
	errs := []error{w.links()}
	for _, p := range probers {
		errs = append(errs, w.probe(p))
	}
	return errors.Join(append(errs, w.air())...)
}

// watched answers what was seen, and is the end of the watch.
func watched(context.Context, json.RawMessage) (any, error) {
	w := watching
	if w == nil {
		return nil, errors.New("nothing is watched: lab.watch is not on the kernel's command line")
	}
	watching = nil
	close(w.stop)
	for _, c := range w.ends {
		c.Close()
	}
	w.over.Wait()
	return w.seen, nil
}

// links notes when an interface of the gateway is up for the first time.
func (w *watcher) links() error {
	changes := make(chan netlink.LinkUpdate, 64)
	if err := netlink.LinkSubscribe(changes, w.stop); err != nil {
		return fmt.Errorf("watching the interfaces: %w", err)
	}
	w.over.Go(func() {
		for c := range changes {
			name := c.Link.Attrs().Name
			if c.IfInfomsg.Flags&unix.IFF_UP == 0 {
				continue
			}
			w.mu.Lock()
			if _, known := w.seen.Up[name]; !known {
				w.seen.Up[name] = monotonic()
			}
			w.mu.Unlock()
		}
	})
	return nil
}

// air notes the first frame of the gateway's radio, on the interface where the
// kernel shows what all of its simulated radios send.
func (w *watcher) air() error {
	link, err := soonThere("hwsim0")
	if err != nil {
		return fmt.Errorf("listening to the air: %w", err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("listening to the air: %w", err)
	}
	ifi, err := net.InterfaceByName("hwsim0")
	if err != nil {
		return err
	}
	conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
	if err != nil {
		return fmt.Errorf("listening to the air: %w", err)
	}
	w.ends = append(w.ends, conn)
	w.over.Go(func() {
		if _, _, err := conn.ReadFrom(make([]byte, 4096)); err == nil {
			w.mu.Lock()
			w.seen.Air = monotonic()
			w.mu.Unlock()
		}
		<-w.stop
		_ = netlink.LinkSetDown(link)
	})
	return nil
}

// soonThere waits for an interface of a module that is loaded at this moment.
func soonThere(name string) (netlink.Link, error) {
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		link, err := netlink.LinkByName(name)
		if err == nil || time.Now().After(end) {
			return link, err
		}
	}
}

// probe tries, from a namespace, everything again and again.
func (w *watcher) probe(p prober) error {
	w.seen.Answers[p.space] = map[string]wire.Answered{}
	var tcp, icmp *net.IPConn
	var udp *net.UDPConn
	err := inside(p.space, func() error {
		own := net.ParseIP(p.own)
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		address := &netlink.Addr{IPNet: &net.IPNet{IP: own, Mask: net.CIDRMask(p.bits, 32)}}
		if err := netlink.AddrReplace(link, address); err != nil {
			return err
		}
		var errs [3]error
		tcp, errs[0] = net.ListenIP("ip4:tcp", &net.IPAddr{IP: own})
		icmp, errs[1] = net.ListenIP("ip4:icmp", &net.IPAddr{IP: own})
		udp, errs[2] = net.ListenUDP("udp4", &net.UDPAddr{IP: own})
		return errors.Join(errs[:]...)
	})
	if err != nil {
		return fmt.Errorf("probing from %s: %w", p.space, err)
	}
	gateway := net.ParseIP(p.gateway)
	w.ends = append(w.ends, tcp, icmp, udp)
	w.hear(p, tcp, tcpAnswer)
	w.hear(p, icmp, icmpAnswer)
	w.over.Go(func() {
		b := make([]byte, 2048)
		for {
			_, from, err := udp.ReadFromUDP(b)
			switch {
			case errors.Is(err, net.ErrClosed):
				return
			case err == nil && from.IP.Equal(gateway):
				w.heard(p.space, fmt.Sprintf("udp %d", from.Port))
			}
		}
	})
	w.over.Go(func() {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for {
			// Whoever is not there yet is asked in vain; that is the point.
			for _, port := range tcpPorts {
				_, _ = tcp.WriteTo(syn(p.own, p.gateway, port), &net.IPAddr{IP: gateway})
			}
			for _, port := range udpPorts {
				_, _ = udp.WriteToUDP(question(port), &net.UDPAddr{IP: gateway, Port: port})
			}
			_, _ = icmp.WriteTo(echo(), &net.IPAddr{IP: gateway})
			w.mu.Lock()
			w.seen.Rounds[p.space]++
			w.mu.Unlock()
			select {
			case <-w.stop:
				return
			case <-tick.C:
			}
		}
	})
	return nil
}

// hear notes what a raw socket hears of the gateway.
func (w *watcher) hear(p prober, c *net.IPConn, what func([]byte) string) {
	gateway := net.ParseIP(p.gateway)
	w.over.Go(func() {
		b := make([]byte, 2048)
		for {
			n, from, err := c.ReadFromIP(b)
			switch {
			case errors.Is(err, net.ErrClosed):
				return
			case err == nil && from.IP.Equal(gateway):
				if said := what(b[:n]); said != "" {
					w.heard(p.space, said)
				}
			}
		}
	})
}

func (w *watcher) heard(space, what string) {
	at := monotonic()
	w.mu.Lock()
	defer w.mu.Unlock()
	a, known := w.seen.Answers[space][what]
	if !known {
		a.First = at
	}
	a.Times++
	w.seen.Answers[space][what] = a
}

// inside runs a function in a network namespace; its sockets stay there.
func inside(space string, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and the thread ends with this goroutine
		ns, err := netns.GetFromName(space)
		if err == nil {
			err = netns.Set(ns)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// syn is the first segment of a call (RFC 9293, 3.1), from port 40000.
func syn(from, to string, port int) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, 40000)
	binary.BigEndian.PutUint16(b[2:], uint16(port))
	binary.BigEndian.PutUint32(b[4:], 1)
	b[12], b[13] = 5<<4, 2
	binary.BigEndian.PutUint16(b[14:], 1024)
	pseudo := append(append(append([]byte{}, net.ParseIP(from).To4()...), net.ParseIP(to).To4()...), 0, unix.IPPROTO_TCP, 0, 20)
	binary.BigEndian.PutUint16(b[16:], checksum(append(pseudo, b...)))
	return b
}

// tcpAnswer says what a segment is; "" if it is none of ours.
func tcpAnswer(b []byte) string {
	if len(b) < 20 || binary.BigEndian.Uint16(b[2:]) != 40000 {
		return ""
	}
	port := binary.BigEndian.Uint16(b)
	if b[13]&4 != 0 {
		return fmt.Sprintf("tcp %d refused", port)
	}
	return fmt.Sprintf("tcp %d open", port)
}

// echo is a ping.
func echo() []byte {
	b := []byte{8, 0, 0, 0, 'l', 'a', 0, 1}
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	return b
}

// icmpAnswer says what a message is (RFC 792); "" for what is no answer.
func icmpAnswer(b []byte) string {
	switch {
	case len(b) < 8:
		return ""
	case b[0] == 0:
		return "ping"
	case b[0] == 3:
		return fmt.Sprintf("icmp unreachable %d", b[1])
	}
	return ""
}

// question is one that a server on the port answers, where we know how to ask.
func question(port int) []byte {
	switch port {
	case 53, 5353, 5355: // the address of devices.zaptec.com
		return []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07devices\x06zaptec\x03com\x00\x00\x01\x00\x01")
	case 123: // a client's, version 4
		return append([]byte{0x23}, make([]byte, 47)...)
	}
	return make([]byte, 8)
}

// checksum is the Internet's (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
