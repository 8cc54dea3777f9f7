package garage

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/sim"
)

// conversations reaches each of the four hosts with three foreign clients, each
// of which verifies the certificate end to end.
func conversations(t *testing.T) {
	h := connected(t, desk)
	ca := garage.Cloud.Authority.File
	for name, port := range sim.Endpoints() {
		at := fmt.Sprintf("%s:%d", name, port)
		t.Run(name, func(t *testing.T) {
			do(t, h, `Verify return code: 0 \(ok\)`, "openssl", "s_client", "-connect", at, "-servername", name,
				"-CAfile", ca, "-verify_return_error", "-verify_hostname", name)
			do(t, h, `Status: The certificate is trusted`, "gnutls-cli", "--x509cafile", ca, "--port", fmt.Sprint(port), name)
			if name != sim.Hub {
				do(t, h, `this is `+name, "curl", "-sS", "-m", "10", "--cacert", ca, "https://"+at+"/")
				return
			}
			// The hub speaks no HTTP: the certificate is verified, an answer cannot come.
			out, _ := h.Run(within(t, 15*time.Second), "curl", "-v", "-sS", "-m", "10", "--cacert", ca, "https://"+at+"/")
			if !strings.Contains(out, "SSL certificate verify ok") {
				t.Errorf("curl could not verify %s:\n%s", at, out)
			}
		})
	}
	unharmed(t)
}

// messages passes one from one device to another through the gateway and the
// hub.
func messages(t *testing.T) {
	a, b := connected(t, desk), connected(t, upstairs)
	hub := []string{"-h", sim.Hub, "-p", "8883", "--cafile", garage.Cloud.Authority.File, "-t", "garage/hello"}
	sub, err := a.Launch("mosquitto_sub", append(hub, "-C", "1")...)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Stop()
	// It says nothing while it waits, so it is told again until it has heard.
	eventually(t, 15*time.Second, "the message arrives", func() (bool, string) {
		do(t, b, ``, "mosquitto_pub", append(hub, "-q", "1", "-m", "from the other floor")...)
		select {
		case <-sub.Ended():
			return true, ""
		default:
			return t.Failed(), sub.Last(5)
		}
	})
	if got := sub.Said(); got != "from the other floor\n" {
		t.Errorf("the message arrived as %q", got)
	}
	unharmed(t)
}

// wrongAddress calls an allowed name at somebody else's address: the gateway
// asks for the name itself and reaches the real host.
func wrongAddress(t *testing.T) {
	h := connected(t, desk)
	do(t, h, `(?i)served-by: `+sim.API, "curl", "-sS", "-i", "-m", "10", "--cacert", garage.Cloud.Authority.File,
		"--resolve", sim.API+":443:"+sim.ElsewhereIP, "https://"+sim.API+"/")
	unharmed(t)
}

// takenAddress boots a charger whose address somebody else has: it declines,
// hangs as its firmware does (F-2), and after its power was off and on it is
// given another one and is well.
func takenAddress(t *testing.T) {
	c := garage.Chargers[0]
	mine := c.View().Binding.Addr.Addr()
	c.PowerOff()
	squatter, err := garage.Squat(c.Network, mine)
	if err != nil {
		t.Fatal(err)
	}
	defer squatter.Stop()
	c.PowerOn()
	said(t, c.Name, "dhcp-lease-declined", mine.String())
	if v := c.View(); v.Stage != sim.DHCP {
		t.Errorf("after the conflict the charger stands at %q, want dhcp", v.Stage)
	}
	c.PowerOff()
	c.PowerOn()
	eventually(t, 10*time.Second, "the charger is well again", func() (bool, string) {
		v := c.View()
		return v.Well(), sprint(v.Stage, v.Binding.Addr, v.Trouble)
	})
	if now := c.View().Binding.Addr.Addr(); now == mine {
		t.Errorf("the charger was given %s again, which somebody else uses", now)
	}
}
