package charger

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A Status is everything the book can say of one charger.
type Status struct {
	Charger
	Known       bool       `json:"known"` // in the inventory, or there is none
	Stage       Stage      `json:"stage"`
	Since       time.Time  `json:"since,omitzero"` // when it came to this stage
	Address     netip.Addr `json:"address,omitzero"`
	Remembered  bool       `json:"address_remembered,omitempty"` // it uses Address, and this box does not know to have given it
	Hostname    string     `json:"hostname,omitempty"`
	LastSeen    time.Time  `json:"last_seen,omitzero"`
	Presence    Presence   `json:"presence"`                  // by which signs it is there
	Mistyped    time.Time  `json:"wrong_passphrase,omitzero"` // when it last tried one
	TurnedAway  time.Time  `json:"no_room,omitzero"`          // when a radio last had no room for it
	Signal      int        `json:"signal_dbm,omitempty"`      // 0: unknown
	Sessions    int        `json:"sessions"`                  // open conversations with the cloud
	Connects    int        `json:"connects"`                  // conversations begun since the daemon started
	Resumed     int        `json:"resumed,omitempty"`         // conversations taken over from the daemon before it
	UpToday     int64      `json:"up_today_bytes"`
	DownToday   int64      `json:"down_today_bytes"`
	Up          int64      `json:"up_bytes"`
	Down        int64      `json:"down_bytes"`
	Refused     string     `json:"refused,omitempty"` // the last thing refused
	RefusedAt   time.Time  `json:"refused_at,omitzero"`
	Firmware    string     `json:"firmware_refused,omitempty"` // the last name refused that may be its firmware's
	FirmwareAt  time.Time  `json:"firmware_refused_at,omitzero"`
	Unreachable string     `json:"unreachable,omitempty"` // the allowed name that did not answer last, and how
	FailedAt    time.Time  `json:"unreachable_at,omitzero"`
	Talked      time.Time  `json:"talked,omitzero"`   // when the cloud last answered
	Cut         int        `json:"cut_conversations"` // with the cloud, ended within seconds, in a row
	CutAt       time.Time  `json:"cut_conversation_at,omitzero"`
	Advice      string     `json:"advice,omitempty"` // one sentence; empty when all is well
}

// All returns everybody in the inventory and everybody seen, by network and
// name, with strangers last. Without an inventory nobody is a stranger.
func (b *Book) All(now time.Time) []Status {
	b.mu.Lock()
	out := make([]Status, 0, len(b.inv)+8)
	for mac := range b.inv {
		out = append(out, b.statusLocked(key{mac: mac}, now))
	}
	for k := range b.seen {
		if !b.namedLocked(k) {
			out = append(out, b.statusLocked(k, now))
		}
	}
	b.mu.Unlock()
	slices.SortFunc(out, func(x, y Status) int {
		if x.Known != y.Known {
			if x.Known {
				return -1
			}
			return 1
		}
		if c := strings.Compare(x.Network, y.Network); c != 0 {
			return c
		}
		return compareNames(x.Name, y.Name)
	})
	return out
}

func (b *Book) statusLocked(k key, now time.Time) Status {
	st := Status{Charger: b.rowLocked(k), Known: b.namedLocked(k) || len(b.inv) == 0, Stage: Wifi}
	if s := b.seen[k]; s != nil {
		if s.network != "" {
			st.Network = s.network
		}
		st.Stage, st.Since, st.Address, st.Hostname, st.LastSeen = s.stage, s.since, s.addr, s.host, s.last
		st.Remembered = !s.used.IsZero()
		st.Presence, st.Mistyped, st.TurnedAway = s.presence(now), s.mistyped, s.turnedAway
		st.Signal, st.Sessions, st.Connects, st.Resumed, st.Up, st.Down = s.signal, s.sessions, s.connects, s.resumed, s.up, s.down
		if s.dayOf == now.Year()*1000+now.YearDay() {
			st.UpToday, st.DownToday = s.dayUp, s.dayDown
		}
		st.Refused, st.RefusedAt, st.Unreachable, st.FailedAt = s.refused, s.refusedAt, s.unreachable, s.failedAt
		st.Firmware, st.FirmwareAt = s.firmware, s.firmwareAt
		st.Talked, st.Cut, st.CutAt = s.talked, s.cut, s.cutAt
	}
	st.Advice = advice(st, now)
	if k.away != "" {
		st.Advice = elsewhere(b.inv[k.mac], k.away)
	}
	return st
}

// Summary says in one line how many chargers have come how far: "12 chargers:
// 11 ok, 1 cloud". Strangers are counted apart.
func Summary(all []Status) string {
	count, known, strangers := map[Stage]int{}, 0, 0
	for _, s := range all {
		if !s.Known {
			strangers++
			continue
		}
		known++
		count[s.Stage]++
	}
	var parts []string
	for _, stage := range slices.Backward(Stages()) {
		if n := count[stage]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, stage))
		}
	}
	line := fmt.Sprintf("%d chargers", known)
	if known == 1 {
		line = "1 charger"
	}
	if len(parts) > 0 {
		line += ": " + strings.Join(parts, ", ")
	}
	if strangers > 0 {
		line += fmt.Sprintf("; %d not in the inventory", strangers)
	}
	return line
}

// compareNames orders P1-2 before P1-10: runs of digits compare by value.
func compareNames(x, y string) int {
	for x != "" && y != "" {
		dx, dy := digits(x), digits(y)
		if dx > 0 && dy > 0 {
			nx, ny := strings.TrimLeft(x[:dx], "0"), strings.TrimLeft(y[:dy], "0")
			if len(nx) != len(ny) {
				return len(nx) - len(ny)
			}
			if c := strings.Compare(nx, ny); c != 0 {
				return c
			}
			x, y = x[dx:], y[dy:]
			continue
		}
		if x[0] != y[0] {
			return int(x[0]) - int(y[0])
		}
		x, y = x[1:], y[1:]
	}
	return len(x) - len(y)
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}
