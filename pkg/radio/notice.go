package radio

import (
	"encoding/binary"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"chargegate/pkg/charger"
)

// A matter is what a notice is about.
type matter int

// Matters.
const (
	changed   matter = iota // who is there may be another; look
	entered                 // the kernel knows a station more, which is not let through yet
	connected               // hostapd lets a station through
	removed                 // the kernel has taken a station out
	dismissed               // this box has told a station to go; code is the reason
	resigned                // a station has said that it goes; code is the reason
	refused                 // this box did not let a station in; code is the status
	mistyped                // a station has another passphrase
	matters
)

var matterNames = [matters]string{"changed", "entered", "connected", "removed", "dismissed", "resigned", "refused", "wrong passphrase"}

// A notice is what the kernel or hostapd tells of its own accord.
type notice struct {
	matter  matter
	ifindex int // of the radio, if the kernel told; 0: radio says it
	radio   int // its place in the configuration, if hostapd told
	mac     charger.MAC
	code    uint16
}

// parse reads one message of nl80211's groups mlme and config. ok is false for those
// that are nothing to us: most are the sent probe responses.
func parse(m genetlink.Message) (n notice, ok bool) {
	switch m.Header.Command {
	case unix.NL80211_CMD_NEW_STATION:
		n.matter = entered
	case unix.NL80211_CMD_DEL_STATION:
		n.matter = removed
	case unix.NL80211_CMD_CONN_FAILED:
		n.matter = refused
	case unix.NL80211_CMD_FRAME_TX_STATUS:
	case unix.NL80211_CMD_NEW_INTERFACE, unix.NL80211_CMD_DEL_INTERFACE, unix.NL80211_CMD_SET_INTERFACE,
		unix.NL80211_CMD_START_AP, unix.NL80211_CMD_STOP_AP, unix.NL80211_CMD_NEW_WIPHY, unix.NL80211_CMD_DEL_WIPHY:
		return notice{matter: changed}, true
	default:
		return notice{}, false
	}
	attrs, err := netlink.NewAttributeDecoder(m.Data)
	if err != nil {
		return notice{}, false
	}
	var frame, mac []byte
	for attrs.Next() {
		switch attrs.Type() {
		case unix.NL80211_ATTR_IFINDEX:
			n.ifindex = int(attrs.Uint32())
		case unix.NL80211_ATTR_MAC:
			mac = attrs.Bytes()
		case unix.NL80211_ATTR_FRAME:
			frame = attrs.Bytes()
		case unix.NL80211_ATTR_CONN_FAILED_REASON:
			if attrs.Uint32() == unix.NL80211_CONN_FAIL_MAX_CLIENTS {
				n.code = noRoom
			}
		}
	}
	if attrs.Err() != nil || n.ifindex <= 0 {
		return notice{}, false
	}
	if m.Header.Command == unix.NL80211_CMD_FRAME_TX_STATUS {
		return sent(n, frame)
	}
	n.mac, ok = single(mac)
	return n, ok && (n.matter != refused || n.code == noRoom)
}

// Kinds of management frames, the first byte of a frame (IEEE 802.11-2020, 9.2.4.1).
const (
	associationResponse   = 0x10
	reassociationResponse = 0x30
	disassociation        = 0xa0
	authentication        = 0xb0
	deauthentication      = 0xc0
)

// headerLen is the length of a management frame's header; the receiver stands at 4.
const headerLen = 24

// sent reads a frame that this box has sent, of which the kernel tells all who listen
// whether it was acknowledged: what hostapd says to a station when it refuses it or
// sends it away, which hostapd itself tells nobody.
func sent(n notice, frame []byte) (notice, bool) {
	if len(frame) < headerLen+2 {
		return notice{}, false
	}
	at := 0 // of the code, in the body
	switch frame[0] {
	case deauthentication, disassociation:
		n.matter = dismissed
	case authentication:
		n.matter, at = refused, 4
	case associationResponse, reassociationResponse:
		n.matter, at = refused, 2
	default:
		return notice{}, false
	}
	if len(frame) < headerLen+at+2 {
		return notice{}, false
	}
	n.code = binary.LittleEndian.Uint16(frame[headerLen+at:])
	var ok bool
	n.mac, ok = single(frame[4:10])
	return n, ok && (n.matter == dismissed || n.code != 0)
}

// single takes the address of one device; ok is false for everything else.
func single(mac []byte) (charger.MAC, bool) {
	if len(mac) != len(charger.MAC{}) || mac[0]&1 != 0 || charger.MAC(mac) == (charger.MAC{}) {
		return charger.MAC{}, false
	}
	return charger.MAC(mac), true
}
