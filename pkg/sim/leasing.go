package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"
)

// heartbeat is how often the firmware announces its address (RFC 5227, 2.3).
const heartbeat = 60 * time.Second

// A lessee keeps a charger's lease: the machine of dhcp.go and its wires.
type lessee struct {
	c        *Charger
	machine  dhcpClient
	boot     *bootWire    // while there is no address
	lease    *net.UDPConn // while there is one
	out      chan<- Binding
	announce time.Time
	server   net.HardwareAddr // who sent the last message
	buf      [2048]byte
}

// lease gets an address and keeps it until ctx is done. Every change is sent to
// out: a binding to use, or an empty one when the address is gone.
func (c *Charger) lease(ctx context.Context, out chan<- Binding) error {
	l := &lessee{c: c, out: out}
	l.machine = dhcpClient{mac: c.MAC, habits: c.habits, rand: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))}
	defer l.close()
	if err := l.openBoot(); err != nil {
		return err
	}
	if err := l.do(ctx, l.machine.start(time.Now())); err != nil {
		return err
	}
	for ctx.Err() == nil {
		step, err := l.wait(ctx)
		if err == nil {
			err = l.do(ctx, step)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *lessee) openBoot() (err error) {
	if l.boot != nil {
		return nil
	}
	filter, err := bootFilter()
	if err == nil {
		l.boot, err = l.c.device.openBootWire(filter)
	}
	return err
}

func (l *lessee) close() {
	if l.boot != nil {
		l.boot.conn.Close()
		l.boot = nil
	}
	if l.lease != nil {
		l.lease.Close()
		l.lease = nil
	}
}

// wait waits for what comes first: a message, the end of the machine's wait, or
// the end of ctx.
func (l *lessee) wait(ctx context.Context) (dhcpStep, error) {
	until := l.machine.wake
	if l.lease != nil && l.announce.Before(until) {
		until = l.announce
	}
	if until.IsZero() { // hung: nothing will ever be done again
		<-ctx.Done()
		return dhcpStep{}, nil
	}
	heard, err := l.hear(ctx, until)
	if ctx.Err() != nil {
		return dhcpStep{}, nil
	}
	if err != nil {
		return dhcpStep{}, fmt.Errorf("listening for DHCP: %w", err)
	}
	now := time.Now()
	switch {
	case heard.dhcp != nil:
		l.c.note(heard.dhcp)
		l.server = heard.from
		return l.machine.hear(heard.dhcp, now), nil
	case heard.arp != nil:
		if heard.arp.sender == l.machine.binding.Addr.Addr() && heard.arp.senderMAC != l.c.MAC && l.machine.state == dhcpProbing {
			l.c.trouble("%s belongs to %s already", heard.arp.sender, hw(heard.arp.senderMAC))
			l.c.update(func(v *View) { v.Declined++ })
			return l.machine.conflict(), nil
		}
	case !now.Before(l.machine.wake):
		return l.tick(now), nil
	case l.lease != nil && !now.Before(l.announce):
		l.announce = now.Add(heartbeat)
		return dhcpStep{}, l.announceAddress()
	}
	return dhcpStep{}, nil
}

// note counts what a server has said to the charger.
func (c *Charger) note(m *dhcpv4.DHCPv4) {
	if m.OpCode != dhcpv4.OpcodeBootReply || string(m.ClientHWAddr) != string(c.MAC[:]) {
		return
	}
	switch m.MessageType() {
	case dhcpv4.MessageTypeNak:
		c.update(func(v *View) { v.Refusals++ })
	case dhcpv4.MessageTypeOffer:
		addr := firstAddr([]net.IP{m.YourIPAddr})
		c.update(func(v *View) { v.Offers = append(slices.Clone(v.Offers), addr) })
	}
}

func (l *lessee) tick(now time.Time) dhcpStep {
	before := l.machine.state
	step := l.machine.tick(now)
	if step.send != nil && before != dhcpBound {
		l.c.update(func(v *View) { v.Resent++ })
	}
	return step
}

// hear waits for a message until the time given. The end of ctx moves the
// deadline into the past, so it is set first and watched after.
func (l *lessee) hear(ctx context.Context, until time.Time) (heardFrame, error) {
	if boot := l.boot; boot != nil {
		if err := boot.conn.SetReadDeadline(until); err != nil {
			return heardFrame{}, err
		}
		defer context.AfterFunc(ctx, func() { boot.conn.SetReadDeadline(time.Unix(1, 0)) })()
		return boot.hear(l.buf[:])
	}
	conn := l.lease
	if err := conn.SetReadDeadline(until); err != nil {
		return heardFrame{}, err
	}
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
	n, _, err := conn.ReadFrom(l.buf[:])
	if err != nil {
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			err = nil
		}
		return heardFrame{}, err
	}
	m, err := dhcpv4.FromBytes(l.buf[:n])
	if err != nil {
		return heardFrame{}, nil // a stranger's bytes
	}
	return heardFrame{dhcp: m, from: l.server}, nil
}

// do carries a step out, in the order that the machine means it: what is lost
// goes first, what is sent goes last.
func (l *lessee) do(ctx context.Context, step dhcpStep) error {
	if step.lost {
		if err := l.lose(ctx); err != nil {
			return err
		}
	}
	if step.probe && l.boot != nil {
		frame := arpFrame(l.c.MAC, netip.IPv4Unspecified(), l.machine.binding.Addr.Addr())
		if err := l.boot.send(frame); err != nil {
			return fmt.Errorf("probing for the address: %w", err)
		}
	}
	if step.bound {
		if err := l.use(ctx); err != nil {
			return err
		}
	}
	if step.send == nil {
		return nil
	}
	return l.send(step)
}

func (l *lessee) send(step dhcpStep) error {
	if l.lease == nil {
		if err := l.boot.send(dhcpFrame(l.c.MAC, step.send.ToBytes())); err != nil {
			return fmt.Errorf("asking for an address: %w", err)
		}
		return nil
	}
	to := &net.UDPAddr{IP: net.IPv4bcast, Port: 67}
	if step.unicast {
		to.IP = l.machine.binding.Server.AsSlice()
	}
	if _, err := l.lease.WriteTo(step.send.ToBytes(), to); err != nil {
		l.c.trouble("asking for more time: %v", err) // it is asked again
	}
	return nil
}

// use puts the binding to work and tells the charger.
func (l *lessee) use(ctx context.Context) error {
	b := l.machine.binding
	if err := l.c.device.take(b); err != nil {
		return err
	}
	if l.c.introduce != nil && l.server != nil {
		if err := l.c.introduce(b, l.server); err != nil {
			return fmt.Errorf("remembering the gateway: %w", err)
		}
	}
	if l.lease == nil {
		var err error
		if l.lease, err = l.c.device.openLeaseWire(ctx); err != nil {
			return err
		}
	}
	if err := l.announceAddress(); err != nil {
		return err
	}
	l.announce = time.Now().Add(heartbeat)
	if l.boot != nil {
		l.boot.conn.Close()
		l.boot = nil
	}
	l.c.update(func(v *View) { v.Binding = b })
	l.c.pass(Names, func(t *Timing) *time.Duration { return &t.Leased })
	return l.tell(ctx, b)
}

// lose stops using the address and goes back to the wire for those without.
func (l *lessee) lose(ctx context.Context) error {
	if l.lease == nil {
		return nil // it never had one
	}
	if err := l.tell(ctx, Binding{}); err != nil {
		return nil // ctx is done
	}
	l.lease.Close()
	l.lease = nil
	if err := l.c.device.drop(); err != nil {
		return err
	}
	l.c.update(func(v *View) { v.Binding = Binding{} })
	return l.openBoot()
}

func (l *lessee) tell(ctx context.Context, b Binding) error {
	select {
	case l.out <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// announceAddress is a gratuitous ARP: the heartbeat of an ESP32.
func (l *lessee) announceAddress() error {
	addr := l.machine.binding.Addr.Addr()
	wire := l.boot
	if wire == nil {
		var err error
		if wire, err = l.c.device.openBootWire(nil); err != nil {
			return err
		}
		defer wire.conn.Close()
	}
	return wire.send(arpFrame(l.c.MAC, addr, addr))
}

// switchOn and switchOff are the radio's.
func (d *device) switchOn() error {
	if err := netlink.LinkSetUp(d.link); err != nil {
		return fmt.Errorf("switching %s on: %w", d.name, err)
	}
	return nil
}

func (d *device) switchOff() error {
	if err := d.drop(); err != nil {
		return err
	}
	if err := netlink.LinkSetDown(d.link); err != nil {
		return fmt.Errorf("switching %s off: %w", d.name, err)
	}
	return nil
}
