package hostapd_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/hostapd"
)

var seven = [6]byte{0x60, 0x15, 0x92, 0x41, 0, 7}

func TestParseEvent(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, datagram string
		want           hostapd.Event
	}{
		{"a wrong passphrase", "<3>AP-STA-POSSIBLE-PSK-MISMATCH 60:15:92:41:00:07", hostapd.Event{Level: 3, Name: hostapd.WrongPassphrase, MAC: seven}},
		{"one is through the handshake", "<3>AP-STA-CONNECTED 60:15:92:41:00:07 auth_alg=open", hostapd.Event{Level: 3, Name: hostapd.Connected, MAC: seven, Rest: "auth_alg=open"}},
		{"a driver that is full", "<3>AP-REJECTED-MAX-STA 60:15:92:41:00:07", hostapd.Event{Level: 3, Name: hostapd.Full, MAC: seven}},
		{"one leaves and says why", "<2>deauthentication: STA=60:15:92:41:00:07 reason_code=3", hostapd.Event{Level: 2, Name: hostapd.Deauthenticated, MAC: seven, Rest: "reason_code=3"}},
		{"hostapd ends", "<3>CTRL-EVENT-TERMINATING ", hostapd.Event{Level: 3, Name: hostapd.Terminating}},
		{"from a socket for several", "IFNAME=wlan0 <3>AP-ENABLED ", hostapd.Event{Level: 3, Name: hostapd.Enabled}},
		{"one that we do not know", "<2>Event RX_MGMT (20) received", hostapd.Event{Level: 2, Name: "Event", Rest: "RX_MGMT (20) received"}},
		{"something that is no MAC", "<3>AP-STA-CONNECTED 60:15:92:41:00", hostapd.Event{Level: 3, Name: hostapd.Connected, Rest: "60:15:92:41:00"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := hostapd.ParseEvent(tt.datagram)
			if diff := cmp.Diff(tt.want, got); diff != "" || !ok {
				t.Errorf("ok is %v (-want +got):\n%s", ok, diff)
			}
		})
	}
}

func TestWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	for _, datagram := range []string{"", "<", "<3>", "<3> x", "<>AP-ENABLED", "<x>AP-ENABLED", "<33>AP-ENABLED", "OK\n", "state=ENABLED\n<3>x", "IFNAME=wlan0", "IFNAME=wlan0 OK", "3>AP-ENABLED"} {
		if e, ok := hostapd.ParseEvent(datagram); ok {
			t.Errorf("%q was read as %+v, want no event", datagram, e)
		}
	}
}

func TestReason(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, rest string
		want       uint16
		ok         bool
	}{
		{"it leaves", "reason_code=3", 3, true},
		{"among others", "x=1 reason_code=8 y", 8, true},
		{"none", "", 0, false},
		{"no number", "reason_code=", 0, false},
		{"more than a code can be", "reason_code=65536", 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, ok := (hostapd.Event{Rest: tt.rest}).Reason(); got != tt.want || ok != tt.ok {
				t.Errorf("reason %d, %v; want %d, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	got := hostapd.Values("state=ENABLED\nphy=\nno value\n=x\nnum_sta[0]=12\nstate=twice\nlast=1")
	want := map[string]string{"state": "ENABLED", "phy": "", "num_sta[0]": "12", "last": "1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
}

func FuzzParseEvent(f *testing.F) {
	f.Add("<3>AP-STA-POSSIBLE-PSK-MISMATCH 60:15:92:41:00:07")
	f.Add("<2>deauthentication: STA=60:15:92:41:00:07 reason_code=3")
	f.Add("IFNAME=wlan0 <3>AP-ENABLED ")
	f.Fuzz(func(t *testing.T, datagram string) {
		e, ok := hostapd.ParseEvent(datagram)
		if !ok {
			if e != (hostapd.Event{}) {
				t.Fatalf("no event, and yet %+v", e)
			}
			return
		}
		if e.Level < 0 || e.Level > 9 || e.Name == "" || strings.Contains(e.Name, " ") || len(e.Name)+len(e.Rest) > len(datagram) {
			t.Fatalf("%q was read as %+v", datagram, e)
		}
		e.Reason()
		hostapd.Values(datagram)
	})
}
