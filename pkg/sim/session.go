package sim

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// A Session is a conversation of a charger with the hub besides its own, moved by
// a test: MQTT over TLS, as the firmware's.
type Session struct {
	id   string
	conn *tls.Conn
	in   *bufio.Reader
}

// Session opens a conversation with the hub, under a client id of its own. The
// charger must have an address.
func (c *Charger) Session(ctx context.Context, id string) (*Session, error) {
	conn, err := c.dial(ctx, c.View().Binding, Hub, 8883)
	if err != nil {
		return nil, err
	}
	s := &Session{id, conn, bufio.NewReader(conn)}
	// Without a promise of signs of life: mosquitto (2.0.21) waits for them by the wall
	// clock, and hangs up where that is set.
	kind, body, err := s.exchange(ctx, connectPacket(id, 0, password(time.Now())))
	if err == nil && (kind != mqttConnAck || len(body) != 2 || body[1] != 0) {
		err = fmt.Errorf("the hub said %d % x", kind, body)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("greeting the hub: %w", err)
	}
	return s, nil
}

// Ping asks the hub for a sign of life and returns how long it took.
func (s *Session) Ping(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	kind, _, err := s.exchange(ctx, pingPacket())
	if err == nil && kind != mqttPingResp {
		err = fmt.Errorf("the hub answered a ping with a packet of type %d", kind)
	}
	return time.Since(began), err
}

// exchange says one thing and hears the next.
func (s *Session) exchange(ctx context.Context, packet []byte) (kind byte, body []byte, err error) {
	if end, ok := ctx.Deadline(); ok {
		s.conn.SetDeadline(end)
	}
	if _, err := s.conn.Write(packet); err != nil {
		return 0, nil, fmt.Errorf("speaking to the hub: %w", err)
	}
	if kind, body, err = readMQTT(s.in); err != nil {
		return 0, nil, fmt.Errorf("listening to the hub: %w", err)
	}
	return kind, body, nil
}

// Close ends the conversation without a word of MQTT.
func (s *Session) Close() { s.conn.NetConn().Close() }

// Dial finds a host's address as the charger would, and connects to it without
// TLS.
func (c *Charger) Dial(ctx context.Context, host string, port uint16) (*net.TCPConn, error) {
	addr, err := c.resolve(ctx, c.View().Binding, host)
	if err != nil {
		return nil, err
	}
	conn, err := c.device.dial(ctx, c.habits.Dial, "tcp4", netip.AddrPortFrom(addr, port))
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", host, err)
	}
	return conn.(*net.TCPConn), nil
}
