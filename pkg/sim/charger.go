package sim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A Stage is how far a charger has come in its own view. The words are those of
// the daemon's ladder.
type Stage string

// The stages.
const (
	Off   Stage = "off"
	DHCP  Stage = "dhcp"
	Names Stage = "dns"
	Time  Stage = "time"
	Talk  Stage = "cloud"
	OK    Stage = "ok"
)

// A View is what a charger knows of itself.
type View struct {
	Name    string
	Network string
	MAC     string
	Stage   Stage
	Binding Binding
	// Trouble is the last thing that went wrong; empty when nothing did since
	// the charger was last well.
	Trouble string
	// Conversations, Pings, Pulses and Served count the MQTT conversations that the
	// hub accepted, the pings that it answered, the pulses that it acknowledged, and
	// the answers of api.zaptec.com.
	Conversations, Pings, Pulses, Served int
	// Clock is how far the time that it was given is from the machine's.
	Clock time.Duration
	// Resent counts DHCP messages that had to be sent again, Refusals the NAKs,
	// Declined the addresses that somebody else had (F-2), and AskedElsewhere the
	// questions to public resolvers (Z-12).
	Resent, Refusals, Declined, AskedElsewhere int
	// Offers are the addresses that it was offered, in the order of the offers.
	Offers []netip.Addr
	// Took is how long after power-up each stage was reached first.
	Took Timing
}

// A Timing is when each stage of one boot was passed, counted from power-up.
// Zero: not yet.
type Timing struct {
	Leased, Resolved, Timed, Online, Served time.Duration
}

// A Charger is a simulated Zaptec Go. It is safe for concurrent use.
type Charger struct {
	Name, Network, Serial string
	MAC                   [6]byte
	habits                Habits
	roots                 *x509.CertPool
	device                *device
	// introduce tells the kernel who the gateway and the charger are to each
	// other; nil: they find out by ARP.
	introduce func(b Binding, gateway net.HardwareAddr) error

	power struct {
		sync.Mutex
		off  context.CancelFunc
		done chan struct{}
	}

	mu      sync.Mutex
	view    View
	powered time.Time
}

// View returns what the charger knows of itself now.
func (c *Charger) View() View {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view
}

// update changes the charger's view of itself.
func (c *Charger) update(f func(v *View)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.view)
}

// pass notes that a stage was reached, and when for the first time.
func (c *Charger) pass(stage Stage, first func(*Timing) *time.Duration) {
	c.update(func(v *View) {
		v.Stage = stage
		if stage == OK {
			v.Trouble = ""
		}
		if first == nil {
			return
		}
		if at := first(&v.Took); *at == 0 {
			*at = time.Since(c.powered)
		}
	})
}

// trouble notes what went wrong.
func (c *Charger) trouble(format string, args ...any) {
	c.update(func(v *View) { v.Trouble = fmt.Sprintf(format, args...) })
}

// PowerOn boots the charger. A charger that is on stays as it is.
func (c *Charger) PowerOn() {
	c.power.Lock()
	defer c.power.Unlock()
	if c.power.off != nil {
		return
	}
	ctx, off := context.WithCancel(context.Background())
	done := make(chan struct{})
	c.power.off, c.power.done = off, done
	c.mu.Lock()
	c.powered = time.Now()
	c.view = View{Name: c.Name, Network: c.Network, MAC: hw(c.MAC), Stage: DHCP}
	c.mu.Unlock()
	go func() {
		defer close(done)
		c.run(ctx)
	}()
}

// PowerOff is a power cut: the charger says good-bye to nobody.
func (c *Charger) PowerOff() {
	c.power.Lock()
	defer c.power.Unlock()
	if c.power.off == nil {
		return
	}
	c.power.off()
	<-c.power.done
	c.power.off = nil
	c.pass(Off, nil)
}

// run is the charger's life between two power cuts.
func (c *Charger) run(ctx context.Context) {
	if err := c.device.switchOn(); err != nil {
		c.trouble("%v", err)
		return
	}
	bindings := make(chan Binding)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(bindings)
		if err := c.lease(ctx, bindings); err != nil && ctx.Err() == nil {
			c.trouble("%v", err)
		}
	})
	c.live(ctx, bindings)
	wg.Wait()
	if err := c.device.switchOff(); err != nil {
		c.trouble("%v", err)
	}
}

// live runs the charger's conversations anew whenever its address changes: the
// firmware drops them all then. A binding without an address means that it has
// none.
func (c *Charger) live(ctx context.Context, bindings <-chan Binding) {
	stop := func() {}
	for b := range bindings {
		stop()
		stop = func() {}
		if !b.Addr.IsValid() {
			c.pass(DHCP, nil)
			continue
		}
		stop = c.begin(ctx, b)
	}
	stop()
}

// begin starts what needs an address. The function returned ends it, and waits.
func (c *Charger) begin(ctx context.Context, b Binding) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.boot(ctx, b)
	}()
	return func() { cancel(); <-done }
}

// boot is what the firmware does once it has an address: the time first, since
// its password for the cloud is made of it, and then the cloud.
func (c *Charger) boot(ctx context.Context, b Binding) {
	if !c.learnTime(ctx, b) {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { c.askAPI(ctx, b) })
	c.talkForEver(ctx, b)
	wg.Wait()
}

// again calls try until it succeeds or ctx is done, and waits in between; wait
// is told how often it failed.
func again(ctx context.Context, wait func(failed int) time.Duration, try func() error, failed func(error)) bool {
	for n := 1; ; n++ {
		err := try()
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		failed(err)
		if !sleep(ctx, wait(n)) {
			return false
		}
	}
}

// sleep waits, and reports whether ctx let it.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// chance is between 0 and 1.
func chance() float64 { return rand.Float64() }

// secure makes a TLS client as the firmware's: version 1.2 only, no tickets,
// the name in clear, and the certificate verified (domain facts of Z-8).
func (c *Charger) secure(host string) *tls.Config {
	return &tls.Config{
		ServerName: host, RootCAs: c.roots, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12,
		SessionTicketsDisabled: true,
	}
}

// dial finds a host's address and sets up TLS with it.
func (c *Charger) dial(ctx context.Context, b Binding, host string, port uint16) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.habits.Dial)
	defer cancel()
	addr, err := c.resolve(ctx, b, host)
	if err != nil {
		return nil, err
	}
	raw, err := c.device.dial(ctx, c.habits.Dial, "tcp4", netip.AddrPortFrom(addr, port))
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", host, err)
	}
	conn := tls.Client(raw, c.secure(host))
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("securing the conversation with %s: %w", host, err)
	}
	return conn, nil
}
