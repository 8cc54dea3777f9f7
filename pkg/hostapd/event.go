package hostapd

import (
	"net"
	"strconv"
	"strings"
)

// Names of the events that mean something to us. hostapd has many more.
const (
	// WrongPassphrase: the station has answered the first message of the handshake
	// with a key that is not ours.
	WrongPassphrase = "AP-STA-POSSIBLE-PSK-MISMATCH"
	// Connected and Disconnected: the station has come through the handshake, and is
	// not let through any more.
	Connected    = "AP-STA-CONNECTED"
	Disconnected = "AP-STA-DISCONNECTED"
	// Full: a driver that lets stations in by itself has refused one for want of
	// room. Where hostapd lets them in it says nothing of it.
	Full = "AP-REJECTED-MAX-STA"
	// Deauthenticated: the station has said that it leaves, and why. hostapd tells it
	// at the level of its debugging (see Attach). Of a disassociation it tells no reason.
	Deauthenticated = "deauthentication:"
	// Enabled and Disabled: beacons begin and end.
	Enabled  = "AP-ENABLED"
	Disabled = "AP-DISABLED"
	// Terminating: hostapd ends.
	Terminating = "CTRL-EVENT-TERMINATING"
)

// An Event is one thing that hostapd tells of its own accord.
type Event struct {
	Level int    // 2 debugging, 3 what happens, 4 and 5 what is wrong
	Name  string // as above, or another
	// MAC is the station's, zero where the event has none.
	MAC  [6]byte
	Rest string // what follows the name, without the MAC; as a stranger may have chosen it
}

// isEvent says whether a datagram is an event and no answer. Answers begin with a
// letter or a digit, and none of ours with IFNAME=.
func isEvent(datagram string) bool {
	return strings.HasPrefix(datagram, "<") || strings.HasPrefix(datagram, "IFNAME=")
}

// ParseEvent reads one datagram, "<3>AP-STA-CONNECTED 60:15:92:41:00:07". ok is false
// where it is none of that form.
func ParseEvent(datagram string) (e Event, ok bool) {
	if strings.HasPrefix(datagram, "IFNAME=") { // from a socket that serves several
		_, datagram, _ = strings.Cut(datagram, " ")
	}
	level, text, ok := strings.Cut(strings.TrimPrefix(datagram, "<"), ">")
	if !ok || len(level) != 1 || level[0] < '0' || level[0] > '9' || !strings.HasPrefix(datagram, "<") {
		return Event{}, false
	}
	e.Level = int(level[0] - '0')
	e.Name, e.Rest, _ = strings.Cut(strings.TrimSuffix(text, "\n"), " ")
	if e.Name == "" {
		return Event{}, false
	}
	first, rest, _ := strings.Cut(e.Rest, " ")
	if mac, found := parseMAC(strings.TrimPrefix(first, "STA=")); found {
		e.MAC, e.Rest = mac, rest
	}
	return e, true
}

// Reason is the reason code (IEEE 802.11, table 9-49) of a Deauthenticated; ok is
// false where there is none.
func (e Event) Reason() (code uint16, ok bool) {
	for word := range strings.FieldsSeq(e.Rest) {
		if value, found := strings.CutPrefix(word, "reason_code="); found {
			n, err := strconv.ParseUint(value, 10, 16)
			if err != nil {
				return 0, false
			}
			return uint16(n), true
		}
	}
	return 0, false
}

// parseMAC reads an address as hostapd writes it.
func parseMAC(s string) (mac [6]byte, ok bool) {
	if len(s) != len("60:15:92:41:00:07") {
		return mac, false
	}
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != len(mac) {
		return mac, false
	}
	return [6]byte(hw), true
}
