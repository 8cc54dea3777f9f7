package dhcp_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"chargegate/pkg/charger"
	"chargegate/pkg/dhcp"
	"chargegate/pkg/event"
	"chargegate/pkg/lease"
)

// The stories below need a network of their own:
//
//	this process's namespace            a second one
//	server ── gw0 ═══════ veth ═══════ cl0 ── clients
//
// inside runs the named test again in new namespaces, which end with it.
const insideEnv = "CHARGEGATE_DHCP_INSIDE"

// inside returns true in the process that has the namespaces. In the other it
// runs that process, and skips if namespaces may not be made here.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideEnv) == t.Name() {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), insideEnv+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	runtime.LockOSThread() // Pdeathsig is about this thread
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		t.Errorf("inside: %v\n%s", err, out)
	case err != nil:
		t.Skipf("network namespaces may not be made here: %v", err)
	default:
		t.Logf("%s", out)
	}
	return false
}

// A garage is a server and a cable.
type garage struct {
	*testing.T
	dir    string
	pools  []lease.Pool
	leases *lease.Table
	book   *charger.Book
	server *dhcp.Server
	heard  chan event.Record
	far    netns.NsHandle
}

// Write hears what is said.
func (g *garage) Write(r event.Record) {
	g.Logf("said: %s", r.Message)
	select {
	case g.heard <- r:
	default:
	}
}

// await waits until something is said.
func (g *garage) await(k *event.Kind) event.Record {
	g.Helper()
	limit := time.After(15 * time.Second)
	for {
		select {
		case r := <-g.heard:
			if r.Kind == k {
				return r
			}
		case <-limit:
			g.Fatalf("%s was not said", k.ID)
		}
	}
}

func newGarage(t *testing.T) *garage {
	t.Helper()
	p, err := lease.NewPool("P1", netip.MustParsePrefix("10.83.0.1/22"), 300)
	if err != nil {
		t.Fatal(err)
	}
	g := &garage{T: t, dir: t.TempDir(), pools: []lease.Pool{p}, heard: make(chan event.Record, 10_000), book: charger.NewBook(nil, nil)}
	if g.leases, _, err = lease.Open(g.dir, g.pools, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.leases.Close() })
	g.server = g.newServer()
	g.second()
	return g
}

func (g *garage) newServer() *dhcp.Server { return g.newServerOn("gw0") }

func (g *garage) newServerOn(ifname string) *dhcp.Server {
	cfg := dhcp.Config{Lease: time.Hour, LockDir: g.dir, Networks: []dhcp.Network{{Name: "P1", Interface: ifname, Gateway: g.pools[0].Gateway,
		Relays: []netip.Addr{netip.MustParseAddr("10.83.2.200")}}}}
	return dhcp.New(cfg, g.leases, g.book, event.New(event.Options{Level: event.Info}, g))
}

// second makes the second namespace.
func (g *garage) second() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	if err != nil {
		g.Fatal(err)
	}
	defer here.Close()
	if g.far, err = netns.New(); err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() { g.far.Close() })
	if err := netns.Set(here); err != nil {
		g.Fatal(err)
	}
}

// there runs f in the second namespace.
func (g *garage) there(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := netns.Set(g.far); err != nil {
			g.Error(err)
			return
		}
		f()
	}()
	<-done
}

// plug makes the cable.
func (g *garage) plug() {
	g.Helper()
	must := func(err error) {
		g.Helper()
		if err != nil {
			g.Fatal(err)
		}
	}
	must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "gw0"}, PeerName: "cl0", PeerNamespace: netlink.NsFd(g.far)}))
	link, err := netlink.LinkByName("gw0")
	must(err)
	addr, err := netlink.ParseAddr(g.pools[0].Gateway.String())
	must(err)
	must(netlink.AddrAdd(link, addr))
	must(netlink.LinkSetUp(link))
	g.there(func() {
		peer, err := netlink.LinkByName("cl0")
		must(err)
		must(netlink.LinkSetHardwareAddr(peer, net.HardwareAddr{0x60, 0x15, 0x92, 0, 0, 1}))
		must(netlink.LinkSetUp(peer))
	})
	g.running("gw0")
	g.there(func() { g.running("cl0") })
}

// running waits until the kernel has begun to send on an interface: until then
// it drops every frame without a word.
func (g *garage) running(name string) {
	g.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ifi, err := net.InterfaceByName(name); err == nil && ifi.Flags&net.FlagRunning != 0 {
			return
		}
	}
	g.Errorf("%s has no carrier", name)
}

func (g *garage) unplug() {
	link, err := netlink.LinkByName("gw0")
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		g.Fatal(err)
	}
}

// join leases an address with the library's client.
func (g *garage) join() (ours *nclient4.Lease) {
	g.Helper()
	g.there(func() {
		c, err := nclient4.New("cl0", nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(3))
		if err != nil {
			g.Error(err)
			return
		}
		defer c.Close()
		if ours, err = c.Request(context.Background()); err != nil {
			g.Error(err)
		}
	})
	if ours == nil {
		g.FailNow()
	}
	return ours
}

// serve starts a server; stop ends it.
func (g *garage) serve(s *dhcp.Server) (stop func()) {
	g.Helper()
	if err := s.Listen(); err != nil {
		g.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			g.Errorf("Serve: %v", err)
		}
	}
}

func TestTheInterfaceComesAndGoes(t *testing.T) {
	if !inside(t) {
		return
	}
	defer goleak.VerifyNone(t)
	g := newGarage(t)
	stop := g.serve(g.server)
	g.await(event.DHCPInterfaceMissing)

	rival := g.newServer()
	if err := rival.Listen(); err == nil {
		t.Error("a second server listens on the same interface")
	}

	g.plug()
	g.await(event.DHCPInterfaceFound)
	first := g.join().ACK.YourIPAddr
	g.await(event.LeaseGranted)
	if mac, ok := g.book.At(netip.AddrFrom4([4]byte(first.To4()))); !ok || mac != (charger.MAC{0x60, 0x15, 0x92, 0, 0, 1}) {
		t.Errorf("the book says that %s has %s", mac, first)
	}

	g.unplug()
	g.await(event.DHCPInterfaceMissing)
	g.plug()
	g.await(event.DHCPInterfaceFound)
	if again := g.join().ACK.YourIPAddr; !again.Equal(first) {
		t.Errorf("got %s on the new interface, had %s", again, first)
	}
	g.await(event.LeaseKept)

	stop()
	stop = g.serve(g.server) // it can be started again
	if again := g.join().ACK.YourIPAddr; !again.Equal(first) {
		t.Errorf("got %s after a restart, had %s", again, first)
	}
	stop()
}

// A herd is many chargers behind one cable, each with its own MAC.
type herd struct {
	conn  *packet.Conn
	xid   map[dhcpv4.TransactionID]charger.MAC
	acked map[charger.MAC]netip.Addr
}

func TestTheWholeGarageComesBackAtOnce(t *testing.T) {
	if !inside(t) {
		return
	}
	defer goleak.VerifyNone(t)
	g := newGarage(t)
	g.plug()
	stop := g.serve(g.server)
	defer stop()
	const chargers = 250
	h := &herd{xid: map[dhcpv4.TransactionID]charger.MAC{}, acked: map[charger.MAC]netip.Addr{}}
	g.there(func() {
		ifi, err := net.InterfaceByName("cl0")
		if err == nil {
			h.conn, err = packet.Listen(ifi, packet.Raw, 0x0800, nil)
		}
		if err == nil {
			err = grow(h.conn)
		}
		if err != nil {
			t.Error(err)
		}
	})
	if h.conn == nil {
		t.FailNow()
	}
	defer h.conn.Close()
	before, began := g.leases.Stats().Syncs, time.Now()
	var sending sync.WaitGroup
	for n := range chargers {
		hw := charger.MAC{0x60, 0x15, 0x92, 1, byte(n >> 8), byte(n)}
		h.xid[dhcpv4.TransactionID{1, 2, byte(n >> 8), byte(n)}] = hw
	}
	sending.Go(func() { h.discover(t, nil) })
	resent := 0
	buf := make([]byte, 2048)
	for len(h.acked) < chargers {
		h.conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond)) // F-2
		n, _, err := h.conn.ReadFrom(buf)
		switch {
		case err == nil:
			h.hear(t, buf[:n])
		case !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) > 10*time.Second:
			t.Fatalf("%d of %d have an address: %v", len(h.acked), chargers, err)
		default:
			sending.Wait()
			resent += h.discover(t, h.acked)
		}
	}
	took := time.Since(began)
	sending.Wait()
	t.Logf("%d chargers have their addresses after %s, with %d syncs, %d asked again", chargers, took, g.leases.Stats().Syncs-before, resent)
	given := map[netip.Addr]charger.MAC{}
	for hw, addr := range h.acked {
		if other, twice := given[addr]; twice {
			t.Errorf("%s was given to %s and %s", addr, hw, other)
		}
		given[addr] = hw
	}
	again, report, err := lease.Open(clone(t, g.dir), g.pools, nil, time.Now())
	if err != nil || report.Bindings != chargers || len(report.Faults) > 0 {
		t.Errorf("on disk: %+v, %v", report, err)
	}
	again.Close()
}

// grow gives the herd the receive buffers of so many clients together: no
// charger should lose an answer because the others got theirs. Where that is not
// permitted they ask again, as real ones do.
func grow(conn *packet.Conn) error {
	rc, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var option error
	err = rc.Control(func(fd uintptr) {
		option = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	})
	if errors.Is(option, unix.EPERM) {
		option = nil
	}
	return errors.Join(err, option)
}

// clone copies the directory as a power cut would leave it.
func clone(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func message(kind dhcpv4.MessageType, xid dhcpv4.TransactionID, hw charger.MAC, more ...dhcpv4.Option) *dhcpv4.DHCPv4 {
	m := &dhcpv4.DHCPv4{OpCode: dhcpv4.OpcodeBootRequest, HWType: iana.HWTypeEthernet, TransactionID: xid, ClientHWAddr: hw[:],
		Options: dhcpv4.OptionsFromList(append(more, dhcpv4.OptMessageType(kind), dhcpv4.OptHostName("Zaptec Go"))...)}
	return m
}

// discover asks in the name of everybody who is not satisfied, and returns how
// many that are.
func (h *herd) discover(t *testing.T, satisfied map[charger.MAC]netip.Addr) (n int) {
	for xid, hw := range h.xid {
		if _, ok := satisfied[hw]; !ok {
			h.send(t, message(dhcpv4.MessageTypeDiscover, xid, hw))
			n++
		}
	}
	return n
}

// send broadcasts a message in the name of its client.
func (h *herd) send(t *testing.T, m *dhcpv4.DHCPv4) {
	frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, m.ClientHWAddr...)
	frame = append(frame, 8, 0)
	frame = append(frame, dhcp.Datagram(netip.MustParseAddrPort("0.0.0.0:68"), netip.MustParseAddrPort("255.255.255.255:67"), m.ToBytes())...)
	if _, err := h.conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])}); err != nil {
		t.Error(err)
	}
}

// hear acts on one frame as a charger does.
func (h *herd) hear(t *testing.T, frame []byte) {
	const headers = 14 + 20 + 8
	if len(frame) < headers || frame[14+9] != 17 {
		return
	}
	m, err := dhcpv4.FromBytes(frame[headers:])
	if err != nil || m.OpCode != dhcpv4.OpcodeBootReply {
		return
	}
	hw := h.xid[m.TransactionID]
	everybody := charger.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} // for one who asked often
	if to := charger.MAC(frame[:6]); to != hw && to != everybody || hw != charger.MAC(m.ClientHWAddr) {
		t.Errorf("a frame for %s went to %x", hw, frame[:6])
	}
	switch m.MessageType() {
	case dhcpv4.MessageTypeOffer:
		h.send(t, message(dhcpv4.MessageTypeRequest, m.TransactionID, hw,
			dhcpv4.OptRequestedIPAddress(m.YourIPAddr), dhcpv4.OptServerIdentifier(m.ServerIdentifier())))
	case dhcpv4.MessageTypeAck:
		h.acked[hw] = netip.AddrFrom4([4]byte(m.YourIPAddr.To4()))
	default:
		t.Errorf("%s got %s", hw, m.MessageType())
	}
}

func TestListenFailsWithoutPermission(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may listen on any port")
	}
	p, err := lease.NewPool("P1", netip.MustParsePrefix("10.83.0.1/24"), 16)
	if err != nil {
		t.Fatal(err)
	}
	leases, _, err := lease.Open(t.TempDir(), []lease.Pool{p}, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer leases.Close()
	for _, name := range []string{"lo", "missing0"} {
		cfg := dhcp.Config{Lease: time.Hour, Networks: []dhcp.Network{{Name: "P1", Interface: name, Gateway: p.Gateway}}}
		if err := dhcp.New(cfg, leases, charger.NewBook(nil, nil), nil).Listen(); err == nil {
			t.Errorf("listening on %s without permission succeeded", name)
		} else {
			t.Log(err)
		}
	}
}
