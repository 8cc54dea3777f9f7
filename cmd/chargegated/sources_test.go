package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/charger"
	"chargegate/pkg/radio"
	"chargegate/pkg/signal"
	"chargegate/pkg/status"
)

// What a look at a radio found is shown with nothing missing: the channel that was
// measured, hostapd that is not heard, and when there will be a verdict.
func TestRadiosAreShown(t *testing.T) {
	t.Parallel()
	mac, at, resent := charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 7}, time.Now(), 14
	got := shownRadios([]radio.Sample{
		{Network: "P1", Interface: "wlan0", State: radio.Watched, At: at, Frequency: 2462, Unheard: "hostapd does not answer", MaxStations: 7, NoSignal: true, Stations: []radio.Station{
			{MAC: mac, Signal: -60, Early: 2 * time.Minute, Resent: -1, Inactive: time.Second, Connected: time.Minute},
			{MAC: mac, Signal: -83, Median: -82, Grade: signal.Critical, GradeFor: time.Hour, Said: signal.Below, Resent: resent, Sent: 1, Retries: 2, Failed: 3, BitrateUp: 4, BitrateDn: 5},
		}},
		{Network: "P2", Interface: "wlan1", State: radio.Silent, Problem: "hostapd does not run", At: at},
	})
	want := []status.Radio{
		{Network: "P1", Interface: "wlan0", State: "watched", At: at, Channel: 11, Unheard: "hostapd does not answer", MaxStations: 7, NoSignal: true, Stations: []status.Station{
			{MAC: mac, Signal: -60, Early: status.Seconds(2 * time.Minute), Grade: "unknown", Said: "unknown", Inactive: status.Seconds(time.Second), Connected: status.Seconds(time.Minute)},
			{MAC: mac, Signal: -83, Median: -82, Grade: "critical", GradeAge: status.Seconds(time.Hour), Said: "below minimum", Resent: &resent, Sent: 1, Retries: 2, Failed: 3, BitrateUp: 4, BitrateDown: 5},
		}},
		{Network: "P2", Interface: "wlan1", State: "silent", Problem: "hostapd does not run", At: at},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
