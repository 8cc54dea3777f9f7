package charger

import "time"

const (
	// present is how long a sign of life holds: three heartbeats of a charger, which
	// announces its address every minute.
	present = 180 * time.Second
	// quiet is how long an open conversation with the cloud holds without a byte: a
	// charger pings it after 1100 s of silence.
	quiet = 20 * time.Minute
)

// A Presence says by which signs a charger counts as there. One is enough, and it is
// absent after 180 s without any. Each is the time of the last sign, zero where it does
// not hold.
type Presence struct {
	Present bool      `json:"present"`
	Radio   time.Time `json:"radio,omitzero"` // a frame, while the radio lists it
	Heard   time.Time `json:"heard,omitzero"` // its address was announced (ARP), or used
	Cloud   time.Time `json:"cloud,omitzero"` // a byte on its open conversation with the cloud
}

// presence weighs what is known of one.
func (s *seen) presence(now time.Time) Presence {
	var p Presence
	if !s.associated.IsZero() && now.Sub(s.onAir) < present {
		p.Radio = s.onAir
	}
	if !s.heard.IsZero() && now.Sub(s.heard) < present && s.heard.After(s.left) {
		p.Heard = s.heard
	}
	if s.sessions > 0 && !s.moved.IsZero() && now.Sub(s.moved) < quiet && s.moved.After(s.left) {
		p.Cloud = s.moved
	}
	p.Present = !p.Radio.IsZero() || !p.Heard.IsZero() || !p.Cloud.IsZero()
	return p
}

// Mistyped tells that a MAC has tried a wrong passphrase on a network's radio. It is no
// sign that a charger is on it.
func (b *Book) Mistyped(mac MAC, network string, now time.Time) {
	b.outside(mac, network, now, func(s *seen) { s.mistyped = now })
}

// TurnedAway tells that a network's radio had no room for a MAC.
func (b *Book) TurnedAway(mac MAC, network string, now time.Time) {
	b.outside(mac, network, now, func(s *seen) { s.turnedAway = now })
}

// outside notes what somebody does who is not on the network: of chargers of the
// inventory only, since a MAC that never comes in costs nothing to make up.
func (b *Book) outside(mac MAC, network string, now time.Time, f func(*seen)) {
	b.mu.Lock()
	named := b.namedLocked(b.keyLocked(mac, network))
	b.mu.Unlock()
	if named {
		b.change(mac, network, now, f)
	}
}
