package garage

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/sim"
)

// crash kills the daemon as the kernel would. While it is down nothing gets
// out, whatever is tried; afterwards every charger has the address that it had.
func crash(t *testing.T) {
	ctx := within(t, 90*time.Second)
	before := addresses(t)
	c, err := garage.Guest(witness)
	if err != nil {
		t.Fatal(err)
	}
	c.PowerOn()
	t.Cleanup(c.PowerOff)
	eventually(t, 15*time.Second, c.Name+" is online", func() (bool, string) { v := c.View(); return v.Well(), v.Trouble })

	garage.Cloud.Witness.Forget()
	garage.Gateway.Daemon.Kill()
	t.Run("nothing gets out while it is down", func(t *testing.T) {
		for _, a := range c.Misbehave(ctx, garage.Gateway.Address("P1")) {
			if a.Reached || a.Waited {
				t.Errorf("%s; want a refusal at once", a)
			}
		}
		booting := garage.Chargers[0]
		booting.PowerOff()
		booting.PowerOn()
		eventually(t, 15*time.Second, "one charger asks for an address in vain, the others have lost the cloud and called it again", func() (bool, string) {
			for i, v := range garage.Views() {
				if i == 0 && v.Resent == 0 || i > 0 && (v.Stage == sim.OK || !strings.Contains(v.Trouble, "refused")) {
					return false, sprint(v.Name, v.Stage, v.Trouble)
				}
			}
			return true, ""
		})
		onlyTime(t)
		unharmed(t)
	})
	t.Run("every charger has its address again", func(t *testing.T) {
		if _, err := garage.Gateway.StartDaemon(ctx); err != nil {
			t.Fatal(err)
		}
		if err := garage.WaitOnline(ctx); err != nil {
			t.Fatal(err)
		}
		for name, addr := range addresses(t) {
			if before[name] != "" && addr != before[name] {
				t.Errorf("after the crash %s has %s, want %s", name, addr, before[name])
			}
		}
	})
	t.Run("also after their power was cut", func(t *testing.T) {
		garage.PowerOff()
		garage.PowerOn()
		if err := garage.WaitOnline(ctx); err != nil {
			t.Fatal(err)
		}
		for _, v := range garage.Views() {
			if got := v.Binding.Addr.Addr().String(); got != before[v.Name] {
				t.Errorf("after the power cut %s has %s, want %s", v.Name, got, before[v.Name])
			}
		}
	})
}

// addresses are those that the daemon says each device has.
func addresses(t *testing.T) map[string]string {
	t.Helper()
	ladder, err := garage.Gateway.Ladder(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for name, rung := range ladder {
		all[name] = rung.Address
	}
	return all
}

// onlyTime looks at all that was captured on the uplink since the daemon was
// killed: chronyd's own questions, and the ends of the conversations that were
// open. Nobody began anything.
func onlyTime(t *testing.T) {
	t.Helper()
	harmless := regexp.MustCompile(`^(arp|ipv6 among neighbours|udp ` + regexp.QuoteMeta(sim.TimeAddr) + `:123 .*|tcp (reset|within a conversation) .*)`)
	for _, line := range garage.Cloud.Witness.Everything() {
		if !harmless.MatchString(line) {
			t.Errorf("while the daemon was down this was on the uplink: %s", line)
		}
	}
}

// stopAndStart ends the daemon as systemd does and starts it again.
func stopAndStart(t *testing.T) {
	ctx := within(t, 30*time.Second)
	began := time.Now()
	garage.Gateway.Daemon.Stop()
	if took, exit := time.Since(began), garage.Gateway.Daemon.Exit(); exit != 0 || took > 5*time.Second {
		t.Errorf("asked to stop, the daemon ended with %d after %s, want 0 within 5 s", exit, took)
	}
	took, err := garage.Gateway.StartDaemon(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("ready after %s", took)
	if err := garage.WaitOnline(ctx); err != nil {
		t.Fatal(err)
	}
}
