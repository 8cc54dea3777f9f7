package ntprelay

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"chargegate/pkg/charger"

	"github.com/facebook/time/ntp/chrony"
	"github.com/google/go-cmp/cmp"
)

func TestChronydIsSeldomAskedForItsSources(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Source: Chrony}, charger.NewBook(nil, nil), nil)
		asked, answer := 0, error(nil)
		s.sources.ask = func(context.Context) ([]Source, error) {
			asked++
			return []Source{{Address: "192.0.2.1"}}, answer
		}
		ask := func(what string, times, sources int) {
			t.Helper()
			asked = 0
			n := len(s.Sources(t.Context()))
			if asked != times || n != sources {
				t.Errorf("%s: asked %d times for %d sources, want %d times for %d", what, asked, n, times, sources)
			}
		}
		time.Sleep(time.Second)
		ask("at first", 1, 1)
		ask("at once again", 0, 1)
		time.Sleep(sourcesFresh)
		ask("later", 1, 1)
		time.Sleep(time.Second)
		s.now.Store(&state{since: time.Now()})
		time.Sleep(time.Second)
		ask("the time is given now", 1, 1)
		time.Sleep(sourcesFresh)
		answer = errors.New("no answer")
		ask("chronyd is gone", 1, 0)
		ask("and is not asked by everybody", 0, 0)
		time.Sleep(sourcesFresh)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if s.Sources(gone) != nil {
			t.Error("sources for nobody")
		}
		answer = nil
		ask("who went away has not spoilt it", 1, 1)
	})
	if got := New(Config{Source: Kernel}, charger.NewBook(nil, nil), nil).Sources(t.Context()); got != nil {
		t.Errorf("the kernel has sources: %v", got)
	}
}

func TestFromSource(t *testing.T) {
	t.Parallel()
	four := &chrony.IPAddr{IP: [16]byte{192, 0, 2, 1}, Family: chrony.IPAddrInet4}
	const never = 1<<32 - 1
	tests := []struct {
		name string
		data chrony.SourceData
		want Source
	}{
		{"followed", chrony.SourceData{IPAddr: four, Stratum: 2, State: chrony.SourceStateSync, Reachability: 0o377, SinceSample: 12, LatestMeas: -0.001, LatestMeasErr: 0.02},
			Source{Address: "192.0.2.1", Name: "ntp.example", State: Selected, Stratum: 2, Reach: 0xff, Heard: true, Age: 12 * time.Second, Offset: -time.Millisecond, Error: 20 * time.Millisecond}},
		{"silent", chrony.SourceData{IPAddr: four, State: chrony.SourceStateUnreach, SinceSample: never},
			Source{Address: "192.0.2.1", Name: "ntp.example", State: Unreachable}},
		{"answers, but what", chrony.SourceData{IPAddr: four, State: chrony.SourceStateUnreach, Reachability: 1, SinceSample: never},
			Source{Address: "192.0.2.1", Name: "ntp.example", State: Unusable, Reach: 1}},
		{"a state that is not known", chrony.SourceData{IPAddr: four, State: 99, Reachability: 1, SinceSample: never},
			Source{Address: "192.0.2.1", Name: "ntp.example", State: Unusable, Reach: 1}},
		{"has no address yet", chrony.SourceData{IPAddr: &chrony.IPAddr{Family: chrony.IPAddrID}, State: chrony.SourceStateUnreach, SinceSample: never},
			Source{Address: "ntp.example", Name: "ntp.example", State: Unreachable}},
		{"a receiver", chrony.SourceData{IPAddr: &chrony.IPAddr{IP: [16]byte{'G', 'P', 'S', 0}, Family: chrony.IPAddrInet4}, Mode: chrony.SourceModeRef, State: chrony.SourceStateFalseTicker, Reachability: 3, SinceSample: 1},
			Source{Address: "GPS", Name: "ntp.example", State: Falseticker, Reach: 3, Heard: true, Age: time.Second}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, fromSource(tt.data, "ntp.example")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
