package radio

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"chargegate/pkg/charger"
)

// told makes a message of nl80211 as the kernel does.
func told(t testing.TB, command uint8, fill func(*netlink.AttributeEncoder)) genetlink.Message {
	t.Helper()
	e := netlink.NewAttributeEncoder()
	fill(e)
	data, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return genetlink.Message{Header: genetlink.Header{Command: command}, Data: data}
}

// aboutStation is a message about a station on interface 3.
func aboutStation(t testing.TB, command uint8, mac []byte) genetlink.Message {
	return told(t, command, func(e *netlink.AttributeEncoder) {
		e.Uint32(unix.NL80211_ATTR_IFINDEX, 3)
		e.Bytes(unix.NL80211_ATTR_MAC, mac)
	})
}

// frame is a management frame to a station, with the numbers of its body.
func frame(kind byte, to charger.MAC, body ...uint16) []byte {
	f := make([]byte, headerLen)
	f[0] = kind
	copy(f[4:], to[:])
	for _, n := range body {
		f = binary.LittleEndian.AppendUint16(f, n)
	}
	return f
}

// sentFrame is the message that tells that a frame was sent on interface 3.
func sentFrame(t testing.TB, f []byte) genetlink.Message {
	return told(t, unix.NL80211_CMD_FRAME_TX_STATUS, func(e *netlink.AttributeEncoder) {
		e.Uint32(unix.NL80211_ATTR_IFINDEX, 3)
		e.Bytes(unix.NL80211_ATTR_FRAME, f)
		e.Uint64(unix.NL80211_ATTR_COOKIE, 1)
		e.Flag(unix.NL80211_ATTR_ACK, true)
	})
}

func TestParse(t *testing.T) {
	t.Parallel()
	connFailed := func(reason uint32) genetlink.Message {
		return told(t, unix.NL80211_CMD_CONN_FAILED, func(e *netlink.AttributeEncoder) {
			e.Uint32(unix.NL80211_ATTR_IFINDEX, 3)
			e.Bytes(unix.NL80211_ATTR_MAC, mac7[:])
			e.Uint32(unix.NL80211_ATTR_CONN_FAILED_REASON, reason)
		})
	}
	tests := []struct {
		name string
		m    genetlink.Message
		want notice
		ok   bool
	}{
		{"one is new", aboutStation(t, unix.NL80211_CMD_NEW_STATION, mac7[:]), notice{matter: entered, ifindex: 3, mac: mac7}, true},
		{"one is gone", aboutStation(t, unix.NL80211_CMD_DEL_STATION, mac7[:]), notice{matter: removed, ifindex: 3, mac: mac7}, true},
		{"a driver has no room", connFailed(unix.NL80211_CONN_FAIL_MAX_CLIENTS), notice{matter: refused, ifindex: 3, mac: mac7, code: noRoom}, true},
		{"a driver blocks one", connFailed(unix.NL80211_CONN_FAIL_BLOCKED_CLIENT), notice{matter: refused, ifindex: 3, mac: mac7}, false},
		{"hostapd has no room", sentFrame(t, frame(authentication, mac7, 0, 2, noRoom)), notice{matter: refused, ifindex: 3, mac: mac7, code: noRoom}, true},
		{"hostapd refuses WPA3", sentFrame(t, frame(authentication, mac7, 3, 1, 13)), notice{matter: refused, ifindex: 3, mac: mac7, code: 13}, true},
		{"hostapd refuses the cipher", sentFrame(t, frame(associationResponse, mac7, 0x431, 42, 0)), notice{matter: refused, ifindex: 3, mac: mac7, code: 42}, true},
		{"and the second time as well", sentFrame(t, frame(reassociationResponse, mac7, 0x431, 42, 0)), notice{matter: refused, ifindex: 3, mac: mac7, code: 42}, true},
		{"hostapd lets one in", sentFrame(t, frame(authentication, mac7, 0, 2, 0)), notice{matter: refused, ifindex: 3, mac: mac7}, false},
		{"hostapd sends one away", sentFrame(t, frame(deauthentication, mac7, 15)), notice{matter: dismissed, ifindex: 3, mac: mac7, code: 15}, true},
		{"and another", sentFrame(t, frame(disassociation, mac7, 5)), notice{matter: dismissed, ifindex: 3, mac: mac7, code: 5}, true},
		{"hostapd sends all away", sentFrame(t, frame(deauthentication, charger.MAC{255, 255, 255, 255, 255, 255}, 3)), notice{}, false},
		{"a probe response was sent", sentFrame(t, frame(0x50, mac7, 0, 0, 0)), notice{}, false},
		{"an interface is new", told(t, unix.NL80211_CMD_NEW_INTERFACE, func(*netlink.AttributeEncoder) {}), notice{matter: changed}, true},
		{"an access point has stopped", told(t, unix.NL80211_CMD_STOP_AP, func(*netlink.AttributeEncoder) {}), notice{matter: changed}, true},
		{"a scan is done", told(t, unix.NL80211_CMD_NEW_SCAN_RESULTS, func(*netlink.AttributeEncoder) {}), notice{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := parse(tt.m)
			if ok != tt.ok || ok && got != tt.want {
				t.Errorf("parse = %+v, %v; want %+v, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestWhatIsNoNotice(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		m    genetlink.Message
	}{
		{"no interface", told(t, unix.NL80211_CMD_NEW_STATION, func(e *netlink.AttributeEncoder) { e.Bytes(unix.NL80211_ATTR_MAC, mac7[:]) })},
		{"no MAC", told(t, unix.NL80211_CMD_NEW_STATION, func(e *netlink.AttributeEncoder) { e.Uint32(unix.NL80211_ATTR_IFINDEX, 3) })},
		{"a short MAC", aboutStation(t, unix.NL80211_CMD_NEW_STATION, mac7[:5])},
		{"a group", aboutStation(t, unix.NL80211_CMD_NEW_STATION, []byte{1, 0, 0, 0, 0, 1})},
		{"nobody", aboutStation(t, unix.NL80211_CMD_NEW_STATION, make([]byte, 6))},
		{"a frame cut before its code", sentFrame(t, frame(authentication, mac7, 0, 2))},
		{"a frame cut in its header", sentFrame(t, frame(deauthentication, mac7)[:10])},
		{"no frame", sentFrame(t, nil)},
		{"attributes that end early", genetlink.Message{Header: genetlink.Header{Command: unix.NL80211_CMD_DEL_STATION}, Data: []byte{40, 0, 3, 0, 1}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if n, ok := parse(tt.m); ok {
				t.Errorf("read as %+v, want nothing", n)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range []genetlink.Message{
		aboutStation(f, unix.NL80211_CMD_DEL_STATION, mac7[:]),
		sentFrame(f, frame(authentication, mac7, 0, 2, noRoom)),
		sentFrame(f, frame(deauthentication, mac7, 3)),
	} {
		f.Add(m.Header.Command, m.Data)
	}
	f.Fuzz(func(t *testing.T, command uint8, data []byte) {
		n, ok := parse(genetlink.Message{Header: genetlink.Header{Command: command}, Data: data})
		if !ok || n.matter == changed {
			return
		}
		if _, one := single(n.mac[:]); !one || n.ifindex <= 0 {
			t.Errorf("read as %+v", n)
		}
		if n.matter == refused && n.code == 0 {
			t.Errorf("a refusal without a status: %+v", n)
		}
	})
}

// A tape is what a socket gives, one after the other.
type tape struct{ turns []turn }

type turn struct {
	m      genetlink.Message
	family netlink.HeaderType
	err    error
}

var errEnd = errors.New("the tape is over")

func (p *tape) Receive() ([]genetlink.Message, []netlink.Message, error) {
	if len(p.turns) == 0 {
		return nil, nil, errEnd
	}
	now := p.turns[0]
	p.turns = p.turns[1:]
	if now.err != nil {
		return nil, nil, now.err
	}
	return []genetlink.Message{now.m}, []netlink.Message{{Header: netlink.Header{Type: now.family}}}, nil
}

func TestHearing(t *testing.T) {
	t.Parallel()
	const control, nl80211 = 0x10, 0x1c
	lost := &netlink.OpError{Op: "receive", Err: unix.ENOBUFS}
	family := func(name string) genetlink.Message {
		return told(t, 1, func(e *netlink.AttributeEncoder) { e.String(2, name) })
	}
	gone := aboutStation(t, unix.NL80211_CMD_DEL_STATION, mac7[:])
	theGone := notice{matter: removed, ifindex: 3, mac: mac7}
	tests := []struct {
		name  string
		turns []turn
		want  []notice
		err   error
	}{
		{"all is heard", []turn{{m: gone, family: nl80211}, {m: gone, family: nl80211}}, []notice{theGone, theGone}, errEnd},
		{"what was lost is worth a look, and hearing goes on", []turn{{err: lost}, {m: gone, family: nl80211}}, []notice{{matter: changed}, theGone}, errEnd},
		{"another family comes", []turn{{m: family("wireguard"), family: control}, {m: gone, family: nl80211}}, []notice{theGone}, errEnd},
		{"the drivers were loaded anew", []turn{{m: family("nl80211"), family: control}, {m: gone, family: nl80211}}, nil, errReloaded},
		{"the socket fails", []turn{{err: unix.EBADF}, {m: gone, family: nl80211}}, nil, unix.EBADF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []notice
			err := hearAll(&tape{tt.turns}, control, func(n notice) { got = append(got, n) })
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(notice{})); diff != "" || !errors.Is(err, tt.err) {
				t.Errorf("%v, want %v (-want +got):\n%s", err, tt.err, diff)
			}
		})
	}
}
