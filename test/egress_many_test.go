package garage

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"chargegate/pkg/sim"
)

// block is what a charger fetches of its firmware at a time, on a TLS
// conversation of its own (F-7).
const block = 64 << 10

// TestManyTalk tells how many chargers get along with each other: while some
// fetch firmware, and on a way that loses packets.
func TestManyTalk(t *testing.T) {
	t.Parallel()
	const many = 40
	habits := sim.Brisk()
	habits.KeepAlive, habits.Pulse = 300*time.Second, 300*time.Second
	o := sim.Options{
		Networks: []sim.Network{{Name: "P1", Chargers: 2 * many}},
		Habits:   habits, LogLevel: "debug", Allow: []string{"*." + theatre}, NameRate: 1000,
	}
	apart(t, o, func(t *testing.T) {
		garage.PowerOn()
		if err := garage.WaitOnline(within(t, 60*time.Second)); err != nil {
			t.Fatal(err)
		}
		p := puppet(t, 0, "firmware")
		go p.Serve(func(conn *net.TCPConn) {
			server := tls.Server(conn, p.TLS)
			if _, err := io.ReadFull(server, make([]byte, 1)); err == nil {
				server.Write(make([]byte, block))
				io.Copy(io.Discard, server) // until the charger hangs up
			}
		})
		busy, holders := garage.Chargers[:many], garage.Chargers[many:]
		t.Run("a burst of firmware beside the lasting conversations", func(t *testing.T) { burst(t, busy, holders) })
		t.Run("5 % of the packets are lost", func(t *testing.T) { lossy(t, busy[:20]) })
	})
}

// fetch is one session of a firmware download.
func fetch(ctx context.Context, c *sim.Charger) error {
	conn, err := c.Call(ctx, "firmware."+theatre, 443)
	if err != nil {
		return err
	}
	defer conn.NetConn().Close()
	defer context.AfterFunc(ctx, func() { conn.NetConn().Close() })()
	if _, err := conn.Write([]byte{1}); err != nil {
		return err
	}
	_, err = io.CopyN(io.Discard, conn, block)
	return err
}

// greet opens an MQTT conversation with the hub beside the charger's own, and
// waits until it is accepted.
func greet(ctx context.Context, c *sim.Charger) (*tls.Conn, error) {
	conn, err := c.Call(ctx, sim.Hub, 8883)
	if err != nil {
		return nil, err
	}
	id := "second-" + c.Serial
	packet := []byte{0x10, byte(12 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 1, 44, 0, byte(len(id))}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err = conn.Write(append(packet, id...)); err == nil {
		_, err = io.ReadFull(conn, make([]byte, 4))
	}
	if err != nil {
		conn.NetConn().Close()
		return nil, err
	}
	return conn, nil
}

// pinged sends an MQTT ping and waits for its answer.
func pinged(conn *tls.Conn) error {
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Write([]byte{0xc0, 0}); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 2))
	return err
}

// waits are how long something took, many times.
type waits struct {
	mu  sync.Mutex
	all []time.Duration
}

func (w *waits) since(began time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, time.Since(began))
}

// at is what a share of the waits, above 0 and at most 1, did not pass.
func (w *waits) at(share float64) time.Duration {
	slices.Sort(w.all)
	return sim.Percentile(w.all, share)
}

// hold lets every charger open a conversation with the hub and ping it.
func hold(t *testing.T, chargers []*sim.Charger) (opening, ping *waits) {
	t.Helper()
	opening, ping = &waits{}, &waits{}
	var wg sync.WaitGroup
	for i, c := range chargers {
		wg.Go(func() {
			time.Sleep(time.Duration(i) * 10 * time.Millisecond)
			began := time.Now()
			conn, err := greet(within(t, 20*time.Second), c)
			if err != nil {
				t.Errorf("%s calls the hub: %v", c.Name, err)
				return
			}
			defer conn.NetConn().Close()
			opening.since(began)
			for range 20 {
				time.Sleep(40 * time.Millisecond)
				began := time.Now()
				if err := pinged(conn); err != nil {
					t.Errorf("%s pings the hub: %v", c.Name, err)
					return
				}
				ping.since(began)
			}
		})
	}
	wg.Wait()
	return opening, ping
}

// burst lets many fetch firmware while others open and hold their lasting
// conversations (F-7): first at a pace that fills 20 Mbit/s, as much as the
// uplink of a garage may have, and then as fast as they can. The chargers, all in this
// process, and their servers share the machine with the gateway: the second
// figures are those of a machine that is full.
func burst(t *testing.T, busy, holders []*sim.Charger) {
	n := len(garage.Gateway.Events())
	idleOpening, idlePing := hold(t, holders)
	t.Logf("alone: opening a conversation with the hub p50 %s, p99 %s; a ping %s, %s",
		short(idleOpening.at(.5)), short(idleOpening.at(.99)), short(idlePing.at(.5)), short(idlePing.at(.99)))
	for what, pace := range map[string]time.Duration{"40 sessions a second": time.Second, "all that the machine takes": 0} {
		fetched, stop := fetchAll(t, busy, pace)
		began, before := time.Now(), used(t)
		opening, ping := hold(t, holders)
		took, after := time.Since(began), used(t)
		stop()
		t.Logf("beside %s (%d sessions of 64 KiB in %s; of all processor time the gateway had %.0f %%): opening p50 %s (%.1f times), p99 %s (%.1f times); a ping %s (%.1f times), %s (%.1f times)",
			what, fetched.Load(), short(took), 100*float64(after.gateway-before.gateway)/float64(after.all-before.all),
			short(opening.at(.5)), times(opening, idleOpening, .5), short(opening.at(.99)), times(opening, idleOpening, .99),
			short(ping.at(.5)), times(ping, idlePing, .5), short(ping.at(.99)), times(ping, idlePing, .99))
		if most := max(opening.at(1), ping.at(1)); most > 10*time.Second {
			t.Errorf("beside %s somebody waited %s", what, most)
		}
		if fetched.Load() < int64(len(busy)/2) {
			t.Errorf("only %d sessions went through", fetched.Load())
		}
	}
	never(t, n, "", "egress-charger-limit", "egress-total-limit", "egress-unreachable", "egress-hub-unreachable")
}

// usage is processor time.
type usage struct{ gateway, all time.Duration }

// used is what the gateway has had, and everything on the machine.
func used(t *testing.T) (u usage) {
	t.Helper()
	var err error
	if u.gateway, err = sim.CPU(garage.Gateway.Daemon.PID()); err == nil {
		u.all, err = sim.Busy()
	}
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func short(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

func times(loaded, idle *waits, share float64) float64 {
	return float64(loaded.at(share)) / float64(idle.at(share))
}

// fetchAll has every charger fetch firmware, one session after the other and
// none sooner than pace after the one before, until stop is called.
func fetchAll(t *testing.T, chargers []*sim.Charger, pace time.Duration) (fetched *atomic.Int64, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	fetched = &atomic.Int64{}
	for i, c := range chargers {
		wg.Go(func() {
			for next := time.Now().Add(pace * time.Duration(i) / time.Duration(len(chargers))); ; next = next.Add(pace) {
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Until(next)):
				}
				err := fetch(ctx, c)
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					t.Errorf("%s fetches firmware: %v", c.Name, err)
					return
				}
				fetched.Add(1)
			}
		})
	}
	return fetched, func() { cancel(); wg.Wait() }
}

// lossy lets chargers fetch firmware, and ping the hub, by way of an uplink that
// loses 5 % of what it carries in each direction.
func lossy(t *testing.T, chargers []*sim.Charger) {
	const each = 5
	n := len(garage.Gateway.Events())
	const some = "numgen random mod 100 < 5"
	heals := []func(){
		lose(t, garage.Cloud.Space, `iifname "eth0" `+some), lose(t, garage.Gateway.Space, `iifname "eth0" `+some),
	}
	var session, opening waits
	var wg sync.WaitGroup
	for _, c := range chargers {
		wg.Go(func() {
			ctx := within(t, 60*time.Second)
			began := time.Now()
			conn, err := greet(ctx, c)
			if err != nil {
				t.Errorf("%s calls the hub: %v", c.Name, err)
				return
			}
			defer conn.NetConn().Close()
			opening.since(began)
			for range each {
				began := time.Now()
				if err := fetch(ctx, c); err != nil {
					t.Errorf("%s fetches firmware: %v", c.Name, err)
				}
				session.since(began)
				if err := pinged(conn); err != nil {
					t.Errorf("%s pings the hub: %v", c.Name, err)
				}
			}
		})
	}
	wg.Wait()
	for _, heal := range heals {
		heal()
	}
	t.Logf("%d conversations with the hub came about within %s (p50) to %s; %d sessions of 64 KiB took %s (p50), %s (p95), %s (the longest)",
		len(opening.all), opening.at(.5).Round(time.Millisecond), opening.at(1).Round(time.Millisecond),
		len(session.all), session.at(.5).Round(time.Millisecond), session.at(.95).Round(time.Millisecond), session.at(1).Round(time.Millisecond))
	for _, id := range []string{"egress-unreachable", "egress-hub-unreachable", "egress-charger-limit"} {
		never(t, n, "", id)
	}
}
