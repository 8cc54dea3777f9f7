package sim

import "time"

// Habits are the timings of a charger. What it does is always the same; how
// long it waits in between is told here.
type Habits struct {
	// DHCPRetry is the wait after each unanswered DISCOVER or REQUEST; the last
	// one repeats.
	DHCPRetry []time.Duration
	// Probe is how long each of the two ARP probes of an offered address waits
	// for its owner. Zero: the probe is sent, and nothing waits.
	Probe time.Duration
	// NameWait is how long the resolver may take; it is asked twice, and then
	// the public ones are (Z-12).
	NameWait time.Duration
	// TimeWait is the wait for an NTP answer; it doubles with each failure.
	TimeWait time.Duration
	// KeepAlive is what the MQTT CONNECT promises; a ping goes out at half of it.
	KeepAlive time.Duration
	// Pulse is how often the charger tells the cloud how it is.
	Pulse time.Duration
	// Reconnect is the constant part of the wait before the next conversation,
	// and ReconnectMax bounds the growing part.
	Reconnect, ReconnectMax time.Duration
	// Dial is how long a conversation may take to be set up.
	Dial time.Duration
}

// Firmware are the habits of a Zaptec Go as its source has them, early 2024
// (docs/requirements.md, F-1 to F-9).
func Firmware() Habits {
	return Habits{
		DHCPRetry:    []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second},
		Probe:        500 * time.Millisecond,
		NameWait:     time.Second,
		TimeWait:     15 * time.Second,
		KeepAlive:    300 * time.Second,
		Pulse:        600 * time.Second,
		Reconnect:    10 * time.Second,
		ReconnectMax: 180 * time.Second,
		Dial:         20 * time.Second,
	}
}

// Brisk are the firmware's habits with shorter waits where only patience would
// be tested: keep-alive, pulse and reconnecting.
func Brisk() Habits {
	h := Firmware()
	h.Probe = 100 * time.Millisecond
	h.TimeWait = 2 * time.Second
	h.KeepAlive = 10 * time.Second
	h.Pulse = 10 * time.Second
	h.Reconnect, h.ReconnectMax = time.Second, 2*time.Second
	return h
}

// backoff is the wait before conversation number n after a failure (n counts
// from 1): the constant part, a part that grows with the square of n up to its
// bound, and at most a third of that on top, as chance (0 to 1) has it.
func (h Habits) backoff(n int, chance float64) time.Duration {
	grown := min(time.Duration(n*n)*time.Second, h.ReconnectMax)
	return h.Reconnect + grown + time.Duration(chance/3*float64(grown))
}

// retry is the wait after try number n (from 0) of a DHCP message.
func (h Habits) retry(n int) time.Duration {
	return h.DHCPRetry[min(n, len(h.DHCPRetry)-1)]
}
