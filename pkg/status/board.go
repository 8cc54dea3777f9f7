package status

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"
)

// status is the whole board.
func (s *Server) status(now time.Time) Status {
	all := s.today(s.src.Book.All(now), now)
	st := Status{
		Site: s.src.Site, Version: s.src.Version, Started: s.src.Started, Uptime: Seconds(now.Sub(s.src.Started)),
		Networks: s.networks(now), Rules: s.src.List.Rules(), Summary: charger.Summary(all), Chargers: s.dress(all, now),
		Attention: []string{},
	}
	if s.src.Link != nil {
		link := s.src.Link()
		st.Link = &link
	}
	if st.Rules == nil {
		st.Rules = []policy.Rule{}
	}
	if s.src.Clock != nil {
		clock := s.src.Clock()
		if s.src.TimeSources != nil {
			clock.Sources = s.timeSources()
		}
		st.Clock = &clock
	}
	if s.src.Uplink != nil {
		uplink := s.src.Uplink()
		uplink.Problem = plainText(uplink.Problem)
		for i := range uplink.Each {
			uplink.Each[i].Problem = plainText(uplink.Each[i].Problem)
		}
		st.Uplink = &uplink
	}
	st.Outages = s.outages(now)
	st.Troubles = troubles(st)
	for _, t := range st.Troubles {
		st.Attention = append(st.Attention, t.Text)
	}
	st.OK = len(st.Attention) == 0
	return st
}

// timeSources asks whom the clock follows, and does not wait long.
func (s *Server) timeSources() []TimeSource {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return s.src.TimeSources(ctx)
}

// networks joins what is configured with how it is.
func (s *Server) networks(now time.Time) []NetworkState {
	out := make([]NetworkState, len(s.src.Networks))
	for i, n := range s.src.Networks {
		out[i].Network = n
		if s.src.Trouble != nil {
			out[i].Problem, out[i].Do = s.src.Trouble(n.Name)
		}
	}
	at := func(name string) *NetworkState {
		if i := slices.IndexFunc(out, func(n NetworkState) bool { return n.Name == name }); i >= 0 {
			return &out[i]
		}
		return &NetworkState{}
	}
	if s.src.Pools != nil {
		for _, p := range s.src.Pools(now) {
			at(p.Network).Pool = &p
		}
	}
	for _, r := range s.radios() {
		r.Planned = s.planned(r)
		n := at(r.Network)
		n.Radio = &r
		n.settle()
	}
	return out
}

// radios is what was last seen on each radio, with lists that are never null.
func (s *Server) radios() []Radio {
	if s.src.Radios == nil {
		return nil
	}
	radios := s.src.Radios()
	for i := range radios {
		if radios[i].Stations == nil {
			radios[i].Stations = []Station{}
		}
	}
	return radios
}

// dress adds the ages, how each is heard, what is said of strangers, and before a charger's advice
// what is wrong with its whole network.
func (s *Server) dress(all []charger.Status, now time.Time) []Charger {
	var pools []PoolUse
	if s.src.Pools != nil {
		pools = s.src.Pools(now)
	}
	type place struct {
		network string
		mac     charger.MAC
	}
	heard := map[place]Station{}
	for _, r := range s.radios() {
		for _, st := range r.Stations {
			heard[place{r.Network, st.MAC}] = st
		}
	}
	out := make([]Charger, len(all))
	for i, c := range all {
		out[i] = Charger{Status: c, StageAge: age(c.Since, now), LastSeenAge: age(c.LastSeen, now), RefusedAge: age(c.RefusedAt, now), UnreachableAge: age(c.FailedAt, now)}
		if st, ok := heard[place{c.Network, c.MAC}]; ok {
			out[i].hear(st)
		}
		if c.Known && (c.Stage == charger.Wifi || c.Stage == charger.DHCP) && c.Advice != "" {
			out[i].Advice = s.mendFirst(c.Network) + c.Advice
		}
		if !c.Known {
			out[i].ProbablyCharger = isZaptec(c.MAC)
			out[i].Advice = strangersAdvice(out[i], pools)
		}
	}
	return out
}

// mendFirst names the trouble of a network, as the likely cause of what is said of
// a charger on it; empty: it has none. Who names no network is on the only one.
func (s *Server) mendFirst(network string) string {
	if network == "" && len(s.src.Networks) == 1 {
		network = s.src.Networks[0].Name
	}
	if s.src.Trouble == nil || network == "" {
		return ""
	}
	problem, _ := s.src.Trouble(network)
	if problem == "" {
		return ""
	}
	return fmt.Sprintf("Mend network %s first: %s; this may follow from it. ", network, problem)
}

// age is how long ago a moment was, or nil for one that never came.
func age(at, now time.Time) *Seconds {
	if at.IsZero() {
		return nil
	}
	a := Seconds(max(0, now.Sub(at)))
	return &a
}

// find returns who is meant by a name in whatever case, a MAC or an address.
func find(all []Charger, who string) (Charger, bool) {
	same := func(f func(Charger) bool) (Charger, bool) {
		if i := slices.IndexFunc(all, f); i >= 0 {
			return all[i], true
		}
		return Charger{}, false
	}
	if c, ok := same(func(c Charger) bool { return c.Name == who }); ok {
		return c, true
	}
	if mac, err := charger.ParseMAC(who); err == nil {
		return same(func(c Charger) bool { return c.MAC == mac })
	}
	if addr, err := netip.ParseAddr(who); err == nil {
		return same(func(c Charger) bool { return c.Address == addr.Unmap() })
	}
	return same(func(c Charger) bool { return strings.EqualFold(c.Name, who) })
}

// detail is everything about one charger.
func (s *Server) detail(c Charger, now time.Time) ChargerDetail {
	d := ChargerDetail{Charger: c, Started: s.src.Started, Events: s.events(now, query{who: s.src.Book.NameOf(c.MAC), level: event.Info, limit: detailEvents}).Events}
	d.Signs = signs(c.Presence, now)
	s.addVolume(&d, now)
	s.addSignals(&d, now)
	for _, r := range s.radios() {
		for _, st := range r.Stations {
			if st.MAC == c.MAC {
				d.Station, d.NoSignal = &st, r.NoSignal
			}
		}
	}
	return d
}

// signs are those by which a charger is there, with their ages.
func signs(p charger.Presence, now time.Time) []Sign {
	out := []Sign{}
	for by, at := range map[string]time.Time{"radio": p.Radio, "arp": p.Heard, "cloud": p.Cloud} {
		if a := age(at, now); a != nil {
			out = append(out, Sign{by, *a})
		}
	}
	slices.SortFunc(out, func(x, y Sign) int { return cmp.Or(cmp.Compare(x.Age, y.Age), strings.Compare(x.By, y.By)) })
	return out
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}

// plural counts in words: "1 charger does", "2 chargers do".
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
