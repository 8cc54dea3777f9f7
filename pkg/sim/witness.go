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

// A Witness stands at the cloud's end of the uplink and remembers everything
// that arrives there and should not: it sees packets, not connections, so that
// nothing escapes it for lack of a listener.
type Witness struct {
	conn *packet.Conn
	wg   sync.WaitGroup

	mu   sync.Mutex
	seen map[string]int
}

// openWitness begins to watch an interface.
func openWitness(s *Space, name string) (*Witness, error) {
	w := &Witness{seen: map[string]int{}}
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
		if what := suspicion(frame[:n]); what != "" {
			w.mu.Lock()
			w.seen[what]++
			w.mu.Unlock()
		}
	}
}

// cloudMAC is the cloud's own end of the uplink.
var cloudMAC = [6]byte{2, 0, 0, 0, 0, 1}

// Sightings returns what arrived and should not have since the last Forget, one
// line each: "tcp 203.0.113.2 > 198.51.100.14:443 (3 times)".
func (w *Witness) Sightings() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for what, n := range w.seen {
		all = append(all, fmt.Sprintf("%s (%d times)", what, n))
	}
	slices.Sort(all)
	return all
}

// Forget begins with a clean sheet.
func (w *Witness) Forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.seen)
}

// WaitFor waits until something suspicious was seen.
func (w *Witness) WaitFor(ctx context.Context) error {
	return waitFor(ctx, "the witness to see something", nil, func() bool { return len(w.Sightings()) > 0 })
}

// permitted is everything that the gateway itself may send into the cloud: from
// its own address, to these.
var permitted = func() map[string]bool {
	m := map[string]bool{
		"udp " + ResolverAddr + ":53": true, "tcp " + ResolverAddr + ":53": true,
		"udp " + TimeAddr + ":123": true,
		"tcp " + HubAddr + ":8883": true,
	}
	for _, a := range []string{OldAPIAddr, DevicesAddr, APIAddr} {
		m["tcp "+a+":443"] = true
	}
	return m
}()

// suspicion says what a frame that came from the gateway is when it should not
// have come, and "" when it is in order. Answers to what the cloud itself began
// (resets, ICMP errors, the middle of a conversation) are in order.
func suspicion(frame []byte) string {
	if len(frame) < 14 {
		return "a frame cut short"
	}
	switch proto := binary.BigEndian.Uint16(frame[12:]); proto {
	case unix.ETH_P_ARP:
		return ""
	case unix.ETH_P_IP:
		return suspicion4(frame[14:])
	case unix.ETH_P_IPV6:
		return suspicion6(frame[14:])
	default:
		return fmt.Sprintf("ethernet protocol %#04x", proto)
	}
}

// suspicion6 passes over what a machine with IPv6 says to its neighbours by
// itself (RFC 4861, RFC 3810): the gateway's uplink may have IPv6. Nothing else
// may come.
func suspicion6(p []byte) string {
	if len(p) < 48 {
		return "an ipv6 packet cut short"
	}
	next, body := p[6], p[40:]
	if next == 0 { // hop-by-hop options of MLD
		skip := 8 + int(body[1])*8
		if len(body) < skip+1 {
			return "an ipv6 packet cut short"
		}
		next, body = body[0], body[skip:]
	}
	src, dst := netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
	if next == unix.IPPROTO_ICMPV6 && body[0] >= 130 && (src.IsLinkLocalUnicast() || src.IsUnspecified()) {
		return ""
	}
	return fmt.Sprintf("ipv6 protocol %d %s from %s", next, dst, src)
}

func suspicion4(p []byte) string {
	if len(p) < 20 || len(p) < int(p[0]&15)*4+8 {
		return "an ipv4 packet cut short"
	}
	src, dst := netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
	body := p[int(p[0]&15)*4:]
	port := func() string { return fmt.Sprintf("%s:%d", dst, binary.BigEndian.Uint16(body[2:])) }
	what := ""
	switch p[9] {
	case unix.IPPROTO_TCP:
		const syn, ack, rst = 2, 16, 4
		if len(body) < 14 {
			return "a TCP segment cut short"
		}
		begins, resets := body[13]&(syn|ack) == syn, body[13]&rst != 0
		if !begins && src.String() == UplinkAddr || resets && dst.String() == RouterAddr {
			return ""
		}
		what = "tcp " + port()
	case unix.IPPROTO_UDP:
		what = "udp " + port()
	case unix.IPPROTO_ICMP:
		if body[0] != 8 && src.String() == UplinkAddr {
			return ""
		}
		what = fmt.Sprintf("icmp type %d %s", body[0], dst)
	default:
		what = fmt.Sprintf("ip protocol %d %s", p[9], dst)
	}
	if src.String() == UplinkAddr && permitted[what] {
		return ""
	}
	return what + " from " + src.String()
}
