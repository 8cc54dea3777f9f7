package status

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/policy"
)

// crowded is the part of a pool, in percent, from which on it needs attention.
const crowded = 80

// status is the whole board.
func (s *Server) status(now time.Time) Status {
	all := s.src.Book.All(now)
	st := Status{
		Site: s.src.Site, Version: s.src.Version, Started: s.src.Started, Uptime: Seconds(now.Sub(s.src.Started)),
		Networks: s.networks(now), Rules: s.src.List.Rules(), Summary: charger.Summary(all), Chargers: dress(all, now),
		Attention: []string{},
	}
	if st.Rules == nil {
		st.Rules = []policy.Rule{}
	}
	if s.src.Clock != nil {
		clock := s.src.Clock()
		st.Clock = &clock
	}
	if s.src.Uplink != nil {
		uplink := s.src.Uplink()
		st.Uplink = &uplink
	}
	st.Attention = append(st.Attention, attention(st)...)
	st.OK = len(st.Attention) == 0
	return st
}

// networks joins what is configured with how it is.
func (s *Server) networks(now time.Time) []NetworkState {
	out := make([]NetworkState, len(s.src.Networks))
	for i, n := range s.src.Networks {
		out[i].Network = n
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
		at(r.Network).Radio = &r
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

// attention says what needs somebody, the house first, then the chargers.
func attention(st Status) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if c := st.Clock; c != nil && !c.Synchronised {
		say("This box does not know the time, so chargers get none: %s.", orElse(c.Reason, "its clock is not synchronised"))
	}
	if u := st.Uplink; u != nil && !u.OK() {
		say("Names cannot be asked for: %s.", orElse(u.Problem, "no DNS server answers"))
	}
	for _, n := range st.Networks {
		if p := n.Pool; p != nil && p.Used*100 >= p.Size*crowded {
			say("%s has given away %d of %d addresses.", n.Name, p.Used, p.Size)
		}
		if r := n.Radio; r != nil && !r.Watched() && r.State != "waiting" {
			say("The radio %s of %s cannot be watched: %s.", r.Interface, n.Name, orElse(r.Problem, r.State))
		}
	}
	stuck := 0
	for _, c := range st.Chargers {
		if c.Known && c.Stage != charger.OK {
			stuck++
		}
	}
	if stuck > 0 {
		say("%s.", plural(stuck, "charger does not talk with the cloud", "chargers do not talk with the cloud"))
	}
	return out
}

// dress adds the ages.
func dress(all []charger.Status, now time.Time) []Charger {
	out := make([]Charger, len(all))
	for i, c := range all {
		out[i] = Charger{c, age(c.Since, now), age(c.LastSeen, now), age(c.RefusedAt, now), age(c.FailedAt, now)}
	}
	return out
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
	d := ChargerDetail{Charger: c, Events: s.events(now, query{who: s.src.Book.NameOf(c.MAC), limit: detailEvents}).Events}
	for _, r := range s.radios() {
		for _, st := range r.Stations {
			if st.MAC == c.MAC {
				d.Station, d.NoSignal = &st, r.NoSignal
			}
		}
	}
	return d
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
