package main

import (
	"context"
	"net/netip"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"chargegate/pkg/air"
	"chargegate/pkg/charger"
	"chargegate/pkg/radio"
	"chargegate/pkg/resolver"
	"chargegate/pkg/status"
	"chargegate/pkg/volume"
)

// sources hands the noticeboard what it shows. Rooms do not know each other, so
// their words are put into its own here.
func (h *house) sources(collectors []prometheus.Collector) status.Sources {
	return status.Sources{
		Site: h.cfg.Site, Version: buildVersion(), Started: h.began,
		Book: h.book, List: h.list, Networks: h.networks(),
		Clock: h.clockNow, TimeSources: h.timeSources, Trouble: h.addresses.Trouble, Pools: h.pools, Radios: h.radios, Link: h.link, Uplink: h.uplink,
		Conversations: h.conversations, Volume: h.volume, Today: h.today, Signals: h.heard, Outages: h.outages,
		AskEach: h.askEach, LookupNetIP: h.names.LookupNetIP, Confirmed: h.names.Confirmed, Dialable: h.porter.Dialable,
		Collectors: collectors,
	}
}

func (h *house) networks() []status.Network {
	var out []status.Network
	for _, n := range h.cfg.Networks {
		shown := status.Network{Name: n.Name, Interface: n.Interface, Gateway: n.Gateway, Chargers: n.Chargers}
		if n.Radio != nil {
			shown.SSID, shown.Channel = n.Radio.SSID, n.Radio.Channel
		}
		out = append(out, shown)
	}
	return out
}

func (h *house) clockNow() status.Clock {
	c := h.clock.Clock()
	shown := status.Clock{Source: h.cfg.NTP.Source, Synchronised: c.Synchronised, Stratum: c.Stratum, RefID: c.RefID,
		RootDistance: status.Seconds(c.RootDistance), Offset: status.Seconds(c.Offset), Since: c.Since, Reason: c.Reason}
	if step := c.LastStep; !step.At.IsZero() {
		shown.LastStep = &status.Step{At: step.At, By: status.Seconds(step.By)}
	}
	return shown
}

func (h *house) timeSources(ctx context.Context) []status.TimeSource {
	known := h.clock.Sources(ctx)
	if known == nil {
		return nil
	}
	out := []status.TimeSource{}
	for _, t := range known {
		shown := status.TimeSource{Address: t.Address, Name: t.Name, State: string(t.State), Stratum: t.Stratum, Reach: strconv.FormatUint(uint64(t.Reach), 8)}
		if t.Heard {
			age, offset, wrong := status.Seconds(t.Age), status.Seconds(t.Offset), status.Seconds(t.Error)
			shown.Age, shown.Offset, shown.Error = &age, &offset, &wrong
		}
		out = append(out, shown)
	}
	return out
}

func (h *house) pools(now time.Time) []status.PoolUse {
	var out []status.PoolUse
	for _, c := range h.leases.Counts(now) {
		out = append(out, status.PoolUse{Network: c.Network, Size: c.Size, Used: c.Used,
			StrangerSize: c.StrangerSize, StrangerUsed: c.StrangerUsed, Quarantined: c.Quarantined})
	}
	return out
}

func (h *house) radios() []status.Radio { return shownRadios(h.radio.Samples()) }

func shownRadios(samples []radio.Sample) []status.Radio {
	var out []status.Radio
	for _, r := range samples {
		shown := status.Radio{Network: r.Network, Interface: r.Interface, State: string(r.State), Problem: r.Problem,
			At: r.At, Channel: air.Channel(r.Frequency), Unheard: r.Unheard, MaxStations: r.MaxStations, NoSignal: r.NoSignal}
		for _, s := range r.Stations {
			st := status.Station{MAC: s.MAC, Signal: s.Signal, Median: s.Median, Early: status.Seconds(s.Early), Grade: s.Grade.String(), GradeAge: status.Seconds(s.GradeFor), Said: s.Said.String(),
				Inactive: status.Seconds(s.Inactive), Connected: status.Seconds(s.Connected), Sent: s.Sent, Retries: s.Retries, Failed: s.Failed,
				BitrateUp: s.BitrateUp, BitrateDown: s.BitrateDn}
			if s.Resent >= 0 {
				st.Resent = &s.Resent
			}
			shown.Stations = append(shown.Stations, st)
		}
		out = append(out, shown)
	}
	return out
}

func (h *house) uplink() status.Uplink {
	servers, lost, problem := h.names.Upstreams()
	out := status.Uplink{Servers: servers, Lost: lost, Problem: problem}
	out.Each = dnsServers(h.names.Servers())
	for _, u := range out.Each {
		if u.Errors {
			out.Errors++
		}
	}
	return out
}

func (h *house) askEach(ctx context.Context) []status.DNSServer {
	return dnsServers(h.names.AskEach(ctx))
}

func dnsServers(all []resolver.ServerState) []status.DNSServer {
	var out []status.DNSServer
	for _, u := range all {
		out = append(out, status.DNSServer{Name: u.Name, Lost: u.Lost, Errors: u.Errors, Latency: status.Seconds(u.Latency), Problem: u.Problem, Do: u.Do})
	}
	return out
}

func (h *house) link() status.Link {
	l := h.wire.State()
	return status.Link{Interface: l.Interface, Known: l.Known, Up: l.Up(), Missing: l.Missing, Do: l.Do, Address: l.Address, Since: l.Since, Problem: l.Problem}
}

func (h *house) conversations(mac charger.MAC, addr netip.Addr) (open []status.Conversation, past []status.Past) {
	now := time.Now()
	all, over := h.porter.Conversations(mac, addr)
	for _, c := range all {
		open = append(open, status.Conversation{Name: c.Name, Port: c.Port, By: c.By, Reason: c.Reason, Remote: c.Remote, Opened: c.Opened,
			Silent: status.Seconds(max(0, now.Sub(c.Moved))), Up: c.Up, Down: c.Down, Taken: c.Taken})
	}
	for _, p := range over {
		past = append(past, status.Past{Outcome: p.Outcome, Name: p.Name, Port: p.Port, Cause: p.Cause, Reason: p.Reason, Remote: p.Remote, Count: p.Count, First: p.First, At: p.At,
			Lasted: status.Seconds(p.Lasted), Up: p.Up, Down: p.Down})
	}
	return open, past
}

func (h *house) volume(mac charger.MAC, now time.Time) status.Volume {
	h.accounts.date(now, now)
	t := h.accounts.Of(mac, now)
	row := func(r volume.Row) status.VolumeRow {
		return status.VolumeRow{Name: r.Name, Today: status.Moved(r.Today), Yesterday: status.Moved(r.Yesterday), Week: status.Moved(r.Week), Month: status.Moved(r.Month)}
	}
	shown := status.Volume{Dated: t.Dated, Sum: row(t.Sum)}
	if t.Since != 0 {
		shown.Since = t.Since.String()
	}
	for _, r := range t.Names {
		shown.Names = append(shown.Names, row(r))
	}
	return shown
}

func (h *house) today(now time.Time) map[charger.MAC]status.Moved {
	h.accounts.date(now, now)
	out := map[charger.MAC]status.Moved{}
	for mac, f := range h.accounts.Today(now) {
		out[mac] = status.Moved(f)
	}
	return out
}

// heard is how a device was heard. Where nobody told, there is a gap.
func (h *house) heard(mac charger.MAC, now time.Time) status.Signals {
	h.signals.date(now, now)
	t := h.signals.Of(mac, now)
	shown := status.Signals{Dated: t.Dated, Warn: t.Limits.Warn, Minimum: t.Limits.Minimum, Critical: t.Limits.Critical,
		Window: status.Seconds(t.Limits.Window), UplinkOffset: t.Limits.UplinkOffset,
		Minutes: status.Series{Step: status.Seconds(time.Minute)}, Hours: status.Series{Step: status.Seconds(time.Hour)}}
	if t.Dated {
		shown.Minutes.Last, shown.Hours.Last = t.Minute, t.Hour
	}
	if t.Fall.Days > 0 {
		shown.Fall = &status.Fall{From: t.Fall.From, To: t.Fall.To, Days: t.Fall.Days}
	}
	known := func(dBm int) int {
		if dBm == 0 {
			return status.Gap
		}
		return dBm
	}
	for _, m := range t.Minutes {
		there, resent := 0, m.Resent
		if m.There {
			there = 1
		}
		if resent < 0 {
			resent = status.Gap
		}
		of := &shown.Minutes
		of.Signal, of.Present, of.Resent = append(of.Signal, known(m.Signal)), append(of.Present, there), append(of.Resent, resent)
	}
	for _, v := range t.Hours {
		of := &shown.Hours
		of.Signal, of.Weakest, of.Strongest = append(of.Signal, known(v.Signal)), append(of.Weakest, known(v.Low)), append(of.Strongest, known(v.High))
		of.Present = append(of.Present, v.Present)
	}
	return shown
}

func (h *house) outages() []status.Outage {
	var out []status.Outage
	for _, o := range h.porter.Outages() {
		out = append(out, status.Outage{Name: o.Name, Port: o.Port, Cause: o.Cause, Words: o.Words, Do: o.Do, Since: o.Since, Failed: o.Failed, Last: o.Last, Shaky: o.Shaky})
	}
	return out
}
