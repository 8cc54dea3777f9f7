package garage

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/sim"
)

// atOnce is the most that a refusal may take.
const atOnce = time.Second

// refusedToCharger lets a charger that is online try everything it has no
// business with.
func refusedToCharger(t *testing.T) {
	ctx := within(t, 60*time.Second)
	c, err := garage.Guest(rogue)
	if err != nil {
		t.Fatal(err)
	}
	c.PowerOn()
	t.Cleanup(c.PowerOff)
	eventually(t, 15*time.Second, rogue+" is online like the others", func() (bool, string) {
		v := c.View()
		return v.Well(), sprint(v.Stage, v.Trouble)
	})
	for _, a := range c.Misbehave(ctx, garage.Gateway.Address("P1")) {
		t.Log(a)
		if a.Reached || a.Waited || a.Took > atOnce {
			t.Errorf("%s; want a refusal within %s", a, atOnce)
		}
	}
	for id, text := range map[string]string{
		"egress-name-refused":     sim.Elsewhere,
		"egress-port-refused":     sim.API + " on port 8883",
		"egress-nameless-refused": sim.ElsewhereIP,
		"denied-direct":           "proxy",
	} {
		said(t, rogue, id, text)
	}
	// It has just asked for the API (F-7), which is pointed out for the first charger
	// that asks for such a name.
	eventually(t, 3*time.Second, "the name that "+rogue+" asked for is said to be refused", func() (bool, string) {
		return slices.ContainsFunc(garage.Gateway.Events(), func(e sim.Event) bool {
			return e.Charger == rogue && strings.Contains(e.Message, sim.Elsewhere) &&
				(e.ID == "resolver-name-refused" || e.ID == "resolver-firmware-name-refused")
		}), ""
	})
	for _, text := range []string{"TCP port 8080 of " + sim.APIAddr, "UDP port 443 of " + sim.ElsewhereIP, "ping to " + sim.ElsewhereIP, "TCP port 22"} {
		said(t, rogue, "denied-refused", text)
	}
	if v := c.View(); v.Stage != sim.OK {
		t.Errorf("while it misbehaved its own conversation ended: %s", v.Trouble)
	}
	unharmed(t)
}

// refusedToPrograms is the same for programs that others have written.
func refusedToPrograms(t *testing.T) {
	h := connected(t, wrong)
	gw := garage.Gateway.Address("P1").String()
	for _, c := range []struct {
		what    string
		program []string
		want    string // what it prints
		id      string // the event
		text    string // what the event says
	}{
		{"another name", []string{"openssl", "s_client", "-connect", sim.ElsewhereIP + ":443", "-servername", sim.Elsewhere},
			`alert number 112`, "egress-name-refused", sim.Elsewhere},
		{"another name, for curl", []string{"curl", "-sS", "-m", "5", "--resolve", "portal.zaptec.com:443:" + sim.ElsewhereIP, "https://portal.zaptec.com/"},
			`alert|unrecognized`, "egress-name-refused", "portal.zaptec.com"},
		{"an allowed name on another allowed port", []string{"openssl", "s_client", "-connect", sim.APIAddr + ":8883", "-servername", sim.API},
			`alert number 112`, "egress-port-refused", sim.API + " on port 8883"},
		{"an allowed name on a port that is nobody's", []string{"curl", "-sS", "-m", "5", "https://" + sim.API + ":8443/"},
			`(?i)connection refused|couldn't connect`, "denied-refused", "TCP port 8443"},
		{"a bare address", []string{"openssl", "s_client", "-connect", sim.ElsewhereIP + ":443", "-noservername"},
			`alert|errno`, "egress-nameless-refused", sim.ElsewhereIP},
		{"plain HTTP where TLS is due", []string{"curl", "-sS", "-m", "5", "http://" + sim.ElsewhereIP + ":443/"},
			`(?i)reset|empty reply`, "egress-plain-refused", sim.ElsewhereIP},
		{"UDP port 443", []string{"dig", "+tries=1", "+time=5", "-p", "443", "@" + sim.ElsewhereIP, "quic.example.com"},
			`(?i)unreachable|refused|prohibited`, "denied-refused", "UDP port 443"},
		{"a ping beyond the gateway", []string{"ping", "-n", "-c", "1", "-W", "3", sim.ElsewhereIP},
			`(?i)filtered|prohibited|unreachable`, "denied-refused", "ping to " + sim.ElsewhereIP},
		{"the proxy's own port", []string{"curl", "-sS", "-m", "5", "https://" + gw + ":18443/"},
			`(?i)connection refused|couldn't connect`, "denied-direct", "proxy"},
		{"the noticeboard's metrics", []string{"curl", "-sS", "-m", "5", "http://" + gw + ":9180/metrics"},
			`(?i)connection refused|couldn't connect`, "denied-refused", "TCP port 9180"},
		{"the gateway's own ssh", []string{"curl", "-sS", "-m", "5", "telnet://" + gw + ":22"},
			`(?i)connection refused|couldn't connect`, "denied-refused", "TCP port 22"},
	} {
		t.Run(c.what, func(t *testing.T) {
			began := time.Now()
			out, err := h.Run(within(t, 10*time.Second), c.program[0], c.program[1:]...)
			if err == nil {
				t.Errorf("%q succeeded:\n%s", c.program, out)
			}
			if took := time.Since(began); took > atOnce+time.Second { // starting the program counts too
				t.Errorf("%q took %s, want a refusal at once", c.program, took)
			}
			if !regexp.MustCompile(c.want).MatchString(out) {
				t.Errorf("%q printed\n%s\nwant something that matches %s", c.program, out, c.want)
			}
			said(t, wrong, c.id, c.text)
		})
	}
	t.Run("IPv6", func(t *testing.T) { noIPv6(t, h) })
	unharmed(t)
}

// noIPv6 sends IPv6 to the gateway as if it were a router for it.
func noIPv6(t *testing.T, h *sim.Host) {
	const router = "fe80::dea6:32ff:fe01:0"
	for _, args := range [][]string{
		{"-6", "addr", "add", "2001:db8::9/64", "dev", h.Iface, "nodad"},
		{"-6", "neigh", "replace", router, "lladdr", "dc:a6:32:01:00:00", "dev", h.Iface},
		{"-6", "route", "add", "default", "via", router, "dev", h.Iface},
	} {
		do(t, h, ``, "ip", args...)
	}
	for _, program := range [][]string{
		{"ping", "-6", "-n", "-c", "1", "-W", "1", "2001:db8:1::1"},
		{"curl", "-6", "-sS", "-m", "1", "https://[2001:db8:1::1]/"},
	} {
		if out, err := h.Run(within(t, 5*time.Second), program[0], program[1:]...); err == nil {
			t.Errorf("%q succeeded:\n%s", program, out)
		}
	}
	said(t, wrong, "denied-refused", "2001:db8:1::1")
}

// keptApart sees that no device reaches another: on the same network the access
// point keeps them apart, on another one the gateway does.
func keptApart(t *testing.T) {
	a, b, far := connected(t, wrong), connected(t, neighbour), connected(t, upstairs)
	server, err := far.Launch("busybox", "httpd", "-f", "-p", "7777", "-h", sim.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	page := "http://" + address(t, far) + ":7777/ca.pem"
	t.Run("on the same network", func(t *testing.T) {
		out, err := a.Run(within(t, 10*time.Second), "ping", "-n", "-c", "1", "-W", "1", address(t, b))
		if err == nil {
			t.Errorf("%s reached %s:\n%s", wrong, neighbour, out)
		}
	})
	t.Run("on another network", func(t *testing.T) {
		began := time.Now()
		out, err := a.Run(within(t, 10*time.Second), "curl", "-sS", "-m", "5", page)
		if err == nil || time.Since(began) > 2*time.Second {
			t.Errorf("curl to %s: %v after %s\n%s\nwant a refusal at once", upstairs, err, time.Since(began), out)
		}
		said(t, wrong, "denied-refused", "TCP port 7777 of "+address(t, far))
	})
	t.Run("there is something to reach", func(t *testing.T) {
		do(t, far, "BEGIN CERTIFICATE", "curl", "-sS", "-m", "5", page)
	})
	unharmed(t)
}

// nothingFromOutside calls the gateway, and a charger through it, from the side
// of the uplink.
func nothingFromOutside(t *testing.T) {
	cloud := garage.Cloud.Space
	charger := address(t, connected(t, upstairs))
	gw := garage.Gateway.Address("P2").String()
	for _, to := range []string{gw, charger} {
		if out, err := cloud.Run(within(t, 5*time.Second), "ip", "route", "replace", to, "via", sim.UplinkAddr); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for _, addr := range []string{
		sim.UplinkAddr + ":53", sim.UplinkAddr + ":18443", sim.UplinkAddr + ":443", sim.UplinkAddr + ":22", sim.UplinkAddr + ":9180",
		gw + ":53", gw + ":18443", charger + ":7777",
	} {
		began := time.Now()
		conn, err := cloud.Dial("tcp4", addr)
		if err == nil {
			conn.Close()
			t.Errorf("from outside, %s can be reached", addr)
		} else if took := time.Since(began); took > atOnce {
			t.Errorf("from outside, %s was refused only after %s: %v", addr, took, err)
		}
	}
	for _, port := range []int{53, 67, 123, 323} {
		addr := fmt.Sprintf("%s:%d", sim.UplinkAddr, port)
		conn, err := cloud.Dial("udp4", addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := answered(conn); err == nil {
			t.Errorf("from outside, UDP %s answers", addr)
		} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
			t.Errorf("from outside, UDP %s was dropped without a word, want an ICMP error", addr)
		}
		conn.Close()
	}
	eventually(t, 3*time.Second, "an event about the uplink", func() (bool, string) {
		for _, e := range garage.Gateway.Events() {
			if e.ID == "denied-uplink" && strings.Contains(e.Message, sim.RouterAddr) {
				return true, ""
			}
		}
		return false, ""
	})
}

// answered sends a datagram and waits for what comes back, for a second.
func answered(conn net.Conn) error {
	if _, err := conn.Write([]byte("is anybody there?")); err != nil {
		return err
	}
	conn.SetReadDeadline(time.Now().Add(atOnce))
	_, err := conn.Read(make([]byte, 1500))
	return err
}
