package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"time"
)

// What is in this file is for a machine that is a garage by itself: its own
// services run on it as they were installed, real programs bring up the chargers'
// interfaces, and only the cloud and the chargers' conversations are simulated.

// CloudIn makes the Internet of a garage in a namespace that is there already, and
// whose end of the uplink is there too. It has no clock yet: StartClock gives the
// machine's time, and Lie any other. Files are written to Dir, which is made.
func CloudIn(ctx context.Context, namespace string) (*Cloud, error) {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return nil, err
	}
	space, err := openSpace(namespace)
	if err != nil {
		return nil, err
	}
	c := &Cloud{Space: space}
	for _, name := range []string{"lo", uplink} {
		if err := space.up(name); err != nil {
			return nil, err
		}
	}
	return c, c.furnish(ctx)
}

// Close ends everything that is in the cloud, and the cloud.
func (c *Cloud) Close() { c.close() }

// NewSpace makes a network namespace whose loopback is up.
func NewSpace(name string) (*Space, error) { return newSpace(name) }

// Close lets the namespace go. The kernel ends it with its last process.
func (s *Space) Close() { s.close() }

// Charger makes the talking half of a charger in a namespace of its own: its
// interface and its address are somebody else's business. Settle begins its
// conversations.
func (s *Space) Charger(name, iface string, a *Authority, h Habits) *Charger {
	return &Charger{
		Name: name, Serial: name, habits: h, roots: a.Pool(), device: &device{name: iface, space: s},
		view: View{Name: name, Stage: DHCP}, powered: time.Now(),
	}
}

// Settle begins the conversations of a charger that has an address: names, the
// time, api.zaptec.com, and the lasting one with the hub. The function returned
// breaks them off, and waits.
func (c *Charger) Settle(ctx context.Context, b Binding) (leave func()) {
	c.mu.Lock()
	c.view = View{Name: c.Name, Stage: Names, Binding: b}
	c.powered = time.Now()
	c.mu.Unlock()
	return c.begin(ctx, b)
}

// Count says numbers to the hub, from 1 on and one each time, and hears the hub
// say them back, until until is done or one of them comes back wrong. heard is
// called with each that came back, and how long that took. Nothing is waited for
// in between, so that numbers go on when the way is closed for a while. In the end
// those that are still on their way are waited for, at most as long as patience.
func (s *Session) Count(until context.Context, every, patience time.Duration, heard func(n uint64, took time.Duration)) error {
	topic := "devices/" + s.id + "/count"
	if kind, _, err := s.exchange(until, subscribePacket(1, topic)); err != nil || kind != mqttSubAck {
		return fmt.Errorf("subscribing: packet type %d, %w", kind, err)
	}
	s.conn.SetDeadline(time.Time{})
	said := make(chan spoken, 1<<16)
	ended := make(chan error, 1)
	go func() { ended <- s.hearCount(topic, said, heard) }()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := uint64(1); ; n++ {
		said <- spoken{n, time.Now()}
		body := binary.BigEndian.AppendUint64(mqttString(nil, topic), n)
		if _, err := s.conn.Write(mqttPacket(mqttPublish, 0, body)); err != nil {
			close(said)
			s.Close()
			return fmt.Errorf("number %d: speaking to the hub: %w; %w", n, err, <-ended)
		}
		select {
		case <-tick.C:
		case err := <-ended:
			return err
		case <-until.Done():
			close(said)
			s.conn.SetReadDeadline(time.Now().Add(patience))
			return <-ended
		}
	}
}

// spoken is a number that was said, and when.
type spoken struct {
	n  uint64
	at time.Time
}

// hearCount hears every number that was said, in its order.
func (s *Session) hearCount(topic string, said <-chan spoken, heard func(n uint64, took time.Duration)) error {
	for want := range said {
		kind, body, err := readMQTT(s.in)
		if err != nil {
			return fmt.Errorf("number %d did not come back: %w", want.n, err)
		}
		if kind != mqttPublish || len(body) != 2+len(topic)+8 || string(body[2:2+len(topic)]) != topic {
			return fmt.Errorf("in the place of number %d the hub said %d % x", want.n, kind, body)
		}
		if n := binary.BigEndian.Uint64(body[2+len(topic):]); n != want.n {
			return fmt.Errorf("number %d came in the place of number %d", n, want.n)
		}
		heard(want.n, time.Since(want.at))
	}
	return nil
}
