package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// A Witness stands at the cloud's end of the uplink and captures everything that
// arrives there. It sees packets, not connections, so that nothing escapes it for
// lack of a listener, and it knows which of them should not have come.
type Witness struct {
	conn *packet.Conn
	wg   sync.WaitGroup

	mu  sync.Mutex
	all map[string]int  // everything, in words
	bad map[string]bool // what of it should not have come
}

// openWitness begins to watch an interface.
func openWitness(s *Space, name string) (*Witness, error) {
	w := &Witness{all: map[string]int{}, bad: map[string]bool{}}
	err := s.Do(func() error {
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		w.conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("watching what reaches the cloud: %w", err)
	}
	w.wg.Go(w.watch)
	return w, nil
}

func (w *Witness) close() {
	w.conn.Close()
	w.wg.Wait()
}

func (w *Witness) watch() {
	frame := make([]byte, 65536)
	for {
		n, _, err := w.conn.ReadFrom(frame)
		if err != nil {
			return
		}
		if n >= 12 && [6]byte(frame[6:12]) == cloudMAC {
			continue // our own, on its way out
		}
		what, permitted := judge(frame[:n])
		w.mu.Lock()
		w.all[what]++
		if !permitted {
			w.bad[what] = true
		}
		w.mu.Unlock()
	}
}

// cloudMAC is the cloud's own end of the uplink.
var cloudMAC = [6]byte{2, 0, 0, 0, 0, 1}

// Sightings returns what arrived and should not have since the last Forget, one
// line each: "udp 198.51.100.14:443 from 203.0.113.2 (3 times)".
func (w *Witness) Sightings() []string { return w.lines(true) }

// Everything returns all that arrived since the last Forget, one line each.
func (w *Witness) Everything() []string { return w.lines(false) }

func (w *Witness) lines(onlyBad bool) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var lines []string
	for what, n := range w.all {
		if w.bad[what] || !onlyBad {
			lines = append(lines, fmt.Sprintf("%s (%d times)", what, n))
		}
	}
	slices.Sort(lines)
	return lines
}

// Forget begins with a clean sheet.
func (w *Witness) Forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.all)
	clear(w.bad)
}

// WaitFor waits until something was seen that should not have come.
func (w *Witness) WaitFor(ctx context.Context) error {
	return waitFor(ctx, "the witness to see something", nil, func() bool { return len(w.Sightings()) > 0 })
}

// permitted is everything that the gateway itself may begin: from its own
// address, to these.
var permitted = func() map[string]bool {
	m := map[string]bool{
		"udp " + ResolverAddr + ":53": true, "tcp " + ResolverAddr + ":53": true,
		"udp " + OtherResolverAddr + ":53": true, "tcp " + OtherResolverAddr + ":53": true,
		"tcp " + ResolverAddr + ":853": true, "tcp " + OtherResolverAddr + ":853": true,
		"udp " + TimeAddr + ":123": true,
		"tcp " + HubAddr + ":8883": true, "tcp " + OtherHubAddr + ":8883": true,
	}
	for _, port := range []int{OCPPPort, OCPPTLSPort} {
		m[fmt.Sprintf("tcp %s:%d", OCPPAddr, port)] = true
	}
	for _, a := range append([]string{OldAPIAddr, DevicesAddr, APIAddr}, PuppetAddrs[:]...) {
		m["tcp "+a+":443"] = true
	}
	return m
}()

// judge says in words what a frame is that came from the gateway, and whether
// it was in order that it came. What answers the cloud itself (resets, ICMP
// errors, the middle of a conversation) is in order.
func judge(frame []byte) (what string, ok bool) {
	if len(frame) < 14 {
		return "a frame cut short", false
	}
	switch proto := binary.BigEndian.Uint16(frame[12:]); proto {
	case unix.ETH_P_ARP:
		return "arp", true
	case unix.ETH_P_IP:
		return judge4(frame[14:])
	case unix.ETH_P_IPV6:
		return judge6(frame[14:])
	default:
		return fmt.Sprintf("ethernet protocol %#04x", proto), false
	}
}

func judge4(p []byte) (what string, ok bool) {
	if len(p) < 20 || len(p) < int(p[0]&15)*4+8 {
		return "an ipv4 packet cut short", false
	}
	src, dst := netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
	body := p[int(p[0]&15)*4:]
	to := fmt.Sprintf("%s:%d", dst, binary.BigEndian.Uint16(body[2:]))
	own, home := src.String() == UplinkAddr || src.String() == OtherUplinkAddr, dst.String() == RouterAddr
	switch p[9] {
	case unix.IPPROTO_TCP:
		what, ok = judgeTCP(body, to, own, home)
	case unix.IPPROTO_UDP:
		what = "udp " + to
		ok = own && permitted[what]
	case unix.IPPROTO_ICMP:
		const echo = 8
		what = fmt.Sprintf("icmp type %d %s", body[0], dst)
		ok = body[0] != echo && (own || home)
	default:
		what = fmt.Sprintf("ip protocol %d %s", p[9], dst)
	}
	return what + " from " + src.String(), ok
}

func judgeTCP(segment []byte, to string, own, home bool) (what string, ok bool) {
	const syn, ack, rst = 2, 16, 4
	switch {
	case len(segment) < 20:
		return "a tcp segment cut short " + to, false
	case segment[13]&rst != 0:
		return "tcp reset " + to, own || home
	case segment[13]&(syn|ack) == syn:
		return "tcp " + to, own && permitted["tcp "+to]
	}
	return "tcp within a conversation " + to, own
}

// judge6 passes over what a machine with IPv6 says to its neighbours by itself
// (RFC 4861, RFC 3810): the gateway's uplink may have IPv6. Nothing else may
// come.
func judge6(p []byte) (what string, ok bool) {
	if len(p) < 48 {
		return "an ipv6 packet cut short", false
	}
	next, body := p[6], p[40:]
	if next == 0 { // hop-by-hop options of MLD
		skip := 8 + int(body[1])*8
		if len(body) < skip+1 {
			return "an ipv6 packet cut short", false
		}
		next, body = body[0], body[skip:]
	}
	src, dst := netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
	if next == unix.IPPROTO_ICMPV6 && body[0] >= 130 && (src.IsLinkLocalUnicast() || src.IsUnspecified()) {
		return "ipv6 among neighbours", true
	}
	return fmt.Sprintf("ipv6 protocol %d %s from %s", next, dst, src), false
}
