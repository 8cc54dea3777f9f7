package sim

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// talkForEver keeps the charger's lasting conversation with the hub, with the
// firmware's back-off in between.
func (c *Charger) talkForEver(ctx context.Context, b Binding) {
	failed := 0
	for ctx.Err() == nil {
		began := time.Now()
		err := c.talk(ctx, b)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			failed = 0
		}
		failed++
		c.pass(Talk, nil)
		c.trouble("%v", err)
		if !sleep(ctx, c.habits.backoff(failed, chance())) {
			return
		}
	}
}

// talk is one conversation with the hub. It returns why it ended.
func (c *Charger) talk(ctx context.Context, b Binding) error {
	conn, err := c.dial(ctx, b, Hub, 8883)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.NetConn().Close() })()
	heard := make(chan mqttHeard)
	gone, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		listenMQTT(conn, heard, gone)
	}()
	defer func() {
		conn.NetConn().Close()
		close(gone)
		<-done
	}()
	if _, err := conn.Write(connectPacket(c.Serial, c.habits.KeepAlive, password(time.Now()))); err != nil {
		return fmt.Errorf("greeting the hub: %w", err)
	}
	return c.converse(conn, heard)
}

// password looks like the one that a charger makes from its key and its clock.
func password(now time.Time) string {
	return fmt.Sprintf("SharedAccessSignature sr=%s&sig=c2ltdWxhdGVk&se=%d", Hub, now.Add(7*24*time.Hour).Unix())
}

// An mqttHeard is one packet from the hub, or the end of the conversation.
type mqttHeard struct {
	kind byte
	body []byte
	err  error
}

// listenMQTT passes on what the hub says until the conversation ends or gone is
// closed.
func listenMQTT(r io.Reader, heard chan<- mqttHeard, gone <-chan struct{}) {
	in := bufio.NewReader(r)
	for {
		kind, body, err := readMQTT(in)
		select {
		case heard <- mqttHeard{kind, body, err}:
		case <-gone:
			return
		}
		if err != nil {
			return
		}
	}
}

// converse answers the hub and keeps the conversation alive.
func (c *Charger) converse(conn net.Conn, heard <-chan mqttHeard) error {
	ping := time.NewTicker(c.habits.KeepAlive / 2)
	defer ping.Stop()
	pulse := time.NewTicker(c.habits.Pulse)
	defer pulse.Stop()
	deaf := time.NewTimer(c.habits.Dial) // the hub has not answered
	defer deaf.Stop()
	id := uint16(1)
	for {
		var out []byte
		select {
		case h := <-heard:
			if h.err != nil {
				return fmt.Errorf("listening to the hub: %w", h.err)
			}
			deaf.Stop()
			answer, err := c.hearMQTT(h)
			if err != nil {
				return err
			}
			out = answer
		case <-ping.C:
			out = pingPacket()
			deaf.Reset(c.habits.KeepAlive / 2)
		case <-pulse.C:
			id++
			out = publishPacket(id, "devices/"+c.Serial+"/messages/events/", `{"pulse":true}`)
		case <-deaf.C:
			return errors.New("the hub does not answer any more")
		}
		if len(out) == 0 {
			continue
		}
		conn.SetWriteDeadline(time.Now().Add(c.habits.Dial))
		if _, err := conn.Write(out); err != nil {
			return fmt.Errorf("speaking to the hub: %w", err)
		}
	}
}

// hearMQTT takes one packet and returns what to say to it.
func (c *Charger) hearMQTT(h mqttHeard) ([]byte, error) {
	switch h.kind {
	case mqttConnAck:
		if len(h.body) != 2 || h.body[1] != 0 {
			return nil, fmt.Errorf("the hub refuses the charger: % x", h.body)
		}
		c.update(func(v *View) { v.Conversations++ })
		return subscribePacket(1, "devices/"+c.Serial+"/messages/devicebound/#"), nil
	case mqttSubAck:
		c.pass(OK, func(t *Timing) *time.Duration { return &t.Online })
	case mqttPingResp:
		c.update(func(v *View) { v.Pings++ })
	case mqttPubAck:
		c.update(func(v *View) { v.Pulses++ })
	case mqttPublish:
	default:
		return nil, fmt.Errorf("the hub sent an MQTT packet of type %d", h.kind)
	}
	return nil, nil
}

// askAPI asks api.zaptec.com for firmware until it is answered once.
func (c *Charger) askAPI(ctx context.Context, b Binding) {
	wait := func(n int) time.Duration { return c.habits.backoff(n, chance()) }
	ok := again(ctx, wait, func() error { return c.askFirmware(ctx, b) }, func(err error) { c.trouble("%v", err) })
	if ok {
		c.update(func(v *View) {
			v.Served++
			if v.Took.Served == 0 {
				v.Took.Served = time.Since(c.powered)
			}
		})
	}
}

// askFirmware is one request, on a TLS conversation of its own (F-7).
func (c *Charger) askFirmware(ctx context.Context, b Binding) error {
	conn, err := c.dial(ctx, b, API, 443)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.NetConn().Close() })()
	conn.SetDeadline(time.Now().Add(c.habits.Dial))
	url := "https://" + API + "/api/firmware/" + c.Serial + "/current"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte("{}")))
	if err != nil {
		return err
	}
	r.Close = true
	if err := r.Write(conn); err != nil {
		return fmt.Errorf("asking %s: %w", API, err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", API, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK || answer.Header.Get(ServedBy) != API {
		return fmt.Errorf("%s answered %s as %q", API, answer.Status, answer.Header.Get(ServedBy))
	}
	return nil
}
