package status

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/charger"
)

// telephone is somebody's telephone.
var telephone = charger.MAC{2, 0, 0, 0, 0, 9}

// heardAs is a station with a verdict.
func heardAs(mac charger.MAC, median int, grade, said string) Station {
	return Station{MAC: mac, Signal: median, Median: median, Grade: grade, Said: said}
}

func TestTroublesOfARadio(t *testing.T) {
	t.Parallel()
	const nearer = "Bring an access point nearer to these parking spaces (Z-4)."
	full := func(stations ...Station) Radio {
		return Radio{Network: "P1", Interface: "wlan0", State: "watched", MaxStations: 2, Channel: 6, Stations: stations}
	}
	good7, good8 := heardAs(mac7, -60, "good", "good"), heardAs(mac8, -60, "good", "good")
	tests := []struct {
		name    string
		radio   Radio
		problem string   // of the network
		want    []string // the texts
		do      []string // what is in what to do about each
	}{
		{"all is well, and full as planned", full(good7, good8), "", nil, nil},
		{"full with a stranger", full(good7, heardAs(telephone, -60, "good", "good")), "",
			[]string{"P1: the radio wlan0 is full: 2 of at most 2 stations."}, []string{"sudo chargegate chargers"}},
		{"one critical", full(good7, heardAs(mac8, -83, "critical", "critical")), "",
			[]string{"P1: 1 charger is heard below Zaptec's minimum (Z-4): P1-08 (-83 dBm)."}, []string{nearer}},
		{"two, of whom one is critical", full(heardAs(mac7, -76, "below minimum", "below minimum"), heardAs(mac8, -83, "critical", "critical")), "",
			[]string{"P1: 2 chargers are heard below Zaptec's minimum (Z-4): P1-07 (-76 dBm), P1-08 (-83 dBm)."}, []string{nearer}},
		{"weak only", full(good7, heardAs(mac8, -74, "weak", "weak")), "", nil, nil},
		{"below for a moment only", full(good7, heardAs(mac8, -76, "below minimum", "ok")), "", nil, nil},
		{"a telephone that passes by", Radio{Network: "P1", Interface: "wlan0", State: "watched", MaxStations: 19, Stations: []Station{heardAs(telephone, -85, "critical", "critical")}}, "", nil, nil},
		{"silent for so long that there is no verdict", full(good7, Station{MAC: mac8, Signal: -83, Grade: "unknown", Said: "critical"}), "", nil, nil},
		{"hostapd hangs", Radio{Network: "P1", Interface: "wlan0", State: "watched", Unheard: "hostapd does not answer"}, "",
			[]string{"P1: hostapd of wlan0 has not been heard for a minute, and probably nobody can join meanwhile: hostapd does not answer."},
			[]string{"sudo systemctl restart chargegate-radio@P1"}},
		{"on another channel", Radio{Network: "P1", Interface: "wlan0", State: "watched", Channel: 11}, "",
			[]string{"P1: wlan0 is on channel 11, and the configuration says 6."}, []string{"sudo systemctl restart chargegate-prepare chargegate-radio@P1;"}},
		{"its channel is not known", Radio{Network: "P1", Interface: "wlan0", State: "watched"}, "", nil, nil},
		{"hostapd does not run", Radio{Network: "P1", Interface: "wlan0", State: "silent", Problem: "hostapd does not run"}, "",
			[]string{"P1: wlan0 sends no beacons, so nobody has Wi-Fi: hostapd does not run."}, []string{"sudo systemctl status chargegate-radio@P1"}},
		{"the addresses say it, too", Radio{Network: "P1", Interface: "wlan0", State: "not-access-point", Problem: "station"}, "the radio wlan0 is not on the air, so nobody on it is reached",
			[]string{"P1: wlan0 is not an access point, so nobody has Wi-Fi."}, []string{"sudo systemctl status chargegate-radio@P1"}},
		{"it is not there, and the addresses say it, too", Radio{Network: "P1", Interface: "wlan0", State: "missing"}, "there is no interface wlan0, so nobody on it is served",
			[]string{"P1: wlan0 is not there, so nobody has Wi-Fi."}, []string{"iw dev"}},
		{"the addresses say something else", Radio{Network: "P1", Interface: "wlan0", State: "not-access-point", Problem: "station"}, "another DHCP server gives addresses: 192.168.7.1",
			[]string{"P1: another DHCP server gives addresses: 192.168.7.1.", "P1: wlan0 is not an access point, so nobody has Wi-Fi."}, []string{"Mend", "sudo systemctl status chargegate-radio@P1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(twoChargers())
			h.online(mac7, addr7, time.Now())
			h.online(mac8, addr7.Next(), time.Now())
			h.book.Associated(telephone, "P1", -60, time.Now())
			h.src.Radios = func() []Radio { return []Radio{tt.radio} }
			h.src.Trouble = func(string) (string, string) {
				if tt.problem == "" {
					return "", ""
				}
				return tt.problem, "Mend it."
			}
			var got Status
			asker := h.open(t)
			asker.get("/v1/status", &got)
			var texts []string
			for i, x := range got.Troubles {
				texts = append(texts, x.Text)
				if i < len(tt.do) && !strings.Contains(x.Do, tt.do[i]) || strings.ContainsAny(x.Do, "{}") || x.About != AboutNetwork+"P1" {
					t.Errorf("about %s: do %q", x.About, x.Do)
				}
			}
			if diff := cmp.Diff(tt.want, texts); diff != "" || got.OK != (tt.want == nil) {
				t.Errorf("OK is %v; troubles (-want +got):\n%s", got.OK, diff)
			}
			var doctor Doctor
			asker.get("/v1/doctor", &doctor)
			said := map[string]int{}
			for _, c := range doctor.Checks {
				if c.Name == "network P1" || c.Name == "radio P1" {
					said[c.Found]++
				}
			}
			if tt.radio.Wrong() != "" && said[tt.radio.Wrong()] != 1 {
				t.Errorf("doctor: %+v", doctor.Checks)
			}
		})
	}
}

// A charger is told how it is heard by the radio of its own network, and what to do.
func TestChargersOnARadio(t *testing.T) {
	t.Parallel()
	h := newHouse(twoChargers())
	h.src.Radios = func() []Radio {
		return []Radio{
			{Network: "P1", State: "watched", Stations: []Station{heardAs(mac7, -83, "critical", "critical"), heardAs(mac8, -76, "below minimum", "ok")}},
			{Network: "P2", State: "watched", Stations: []Station{heardAs(mac7, -50, "good", "good")}},
		}
	}
	var got Status
	h.open(t).get("/v1/status", &got)
	seven, eight := got.Chargers[0], got.Chargers[1]
	if seven.Median != -83 || seven.Grade != "critical" || !seven.TooWeak() || !strings.HasPrefix(seven.SignalAdvice, "Bring an access point nearer to this parking space") {
		t.Errorf("the critical one: %+v", seven)
	}
	if eight.Median != -76 || eight.Grade != "below minimum" || eight.TooWeak() || eight.SignalAdvice != "" {
		t.Errorf("the one that is weak for a moment: %+v", eight)
	}
}
