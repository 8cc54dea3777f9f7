package garage

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/sim"
)

// names asks with dig what a charger asks, over UDP and TCP.
func names(t *testing.T) {
	h := connected(t, desk)
	gw := garage.Gateway.Address("P1").String()
	for _, over := range []string{"+notcp", "+tcp"} {
		do(t, h, `gateway-prod[^\n]*\n`+sim.HubAddr, "dig", "+short", over, "@"+gw, sim.Hub)
		do(t, h, `^`+gw+`\n$`, "dig", "+short", over, "@"+gw, "no.pool.ntp.org")
		do(t, h, `status: NXDOMAIN[\s\S]*EDE: `, "dig", over, "@"+gw, sim.Elsewhere)
		do(t, h, `status: NOERROR[\s\S]*ANSWER: 0`, "dig", over, "@"+gw, sim.API, "AAAA")
		do(t, h, `status: NOERROR[\s\S]*ANSWER: 0`, "dig", over, "@"+gw, sim.API, "HTTPS")
	}
	said(t, desk, "resolver-name-refused", sim.Elsewhere)

	t.Run("an answer that upstream cuts short is fetched over TCP, and cut short for whoever has room for less", func(t *testing.T) {
		do(t, h, `flags:[^;]* tc`, "dig", "+ignore", "+noedns", "@"+gw, sim.Big)
		out := do(t, h, `198\.51\.100\.1`, "dig", "+short", "+noedns", "@"+gw, sim.Big)
		if n := strings.Count(out, "198.51.100."); n < 30 { // 512 bytes hold 29
			t.Errorf("%d addresses came over TCP, want more than fit into 512 bytes", n)
		}
	})
	t.Run("another resolver is the gateway too", func(t *testing.T) {
		for _, over := range []string{"+notcp", "+tcp"} {
			do(t, h, `^zap-api[^\n]*\n`+sim.APIAddr, "dig", "+short", over, "@8.8.8.8", sim.API)
			do(t, h, `status: NXDOMAIN`, "dig", over, "@1.1.1.1", sim.Elsewhere)
		}
	})
	t.Run("what is known is not asked again", func(t *testing.T) {
		before := garage.Cloud.Names.Asked()[sim.Devices]
		for range 5 {
			do(t, h, sim.DevicesAddr, "dig", "+short", "@"+gw, sim.Devices)
		}
		if asked := garage.Cloud.Names.Asked()[sim.Devices] - before; asked > 1 {
			t.Errorf("five questions became %d upstream, want one at most", asked)
		}
	})
	unharmed(t)
}

// clock lets two foreign clients take the time, and sees that nobody is given
// any while chronyd does not know it (Z-11).
func clock(t *testing.T) {
	h := connected(t, desk)
	gw := garage.Gateway.Address("P1").String()
	t.Run("is right", func(t *testing.T) {
		for _, server := range []string{gw, sim.BystanderIP} { // the gateway answers whatever the destination
			do(t, h, `System clock wrong by -?0\.0`, "chronyd", "-Q", "-u", "root", "-t", "10", "server "+server+" iburst maxsamples 1")
		}
		sntp(t, h, gw, true)
	})
	t.Run("is not given when it is not known", func(t *testing.T) {
		ctx := within(t, 30*time.Second)
		garage.Cloud.StopClock()
		garage.Gateway.StopClock()
		if err := garage.Gateway.StartClock(ctx); err != nil {
			t.Fatal(err)
		}
		if err := garage.Gateway.WaitClock(ctx, false); err != nil {
			t.Fatal(err)
		}
		before := len(garage.Gateway.Events())
		out, err := h.Run(ctx, "chronyd", "-Q", "-u", "root", "-t", "4", "server "+gw+" iburst maxsamples 1")
		if err == nil || strings.Contains(out, "System clock wrong") {
			t.Errorf("chronyd -Q: %v\n%s\nwant that it gives up", err, out)
		}
		sntp(t, h, gw, false)
		saidSince(t, before, desk, "ntprelay-asked-too-early", desk)
	})
	t.Run("is given again when it is known again", func(t *testing.T) {
		ctx := within(t, 30*time.Second)
		if err := garage.Cloud.StartClock(ctx); err != nil {
			t.Fatal(err)
		}
		if err := garage.Gateway.WaitClock(ctx, true); err != nil {
			t.Fatal(err)
		}
		sntp(t, h, gw, true)
	})
	unharmed(t)
}

// sntp runs NTPsec's client, which sets nothing, and wants it to be answered, or
// to wait in vain.
func sntp(t *testing.T, h *sim.Host, server string, answered bool) {
	t.Helper()
	if answered {
		do(t, h, regexp.QuoteMeta(server)+` s[1-9][0-9]* no-leap`, "ntpdig", "-t", "5", server)
		return
	}
	if out, err := h.Run(within(t, 10*time.Second), "ntpdig", "-t", "2", server); err == nil {
		t.Errorf("ntpdig was answered:\n%s", out)
	}
}
