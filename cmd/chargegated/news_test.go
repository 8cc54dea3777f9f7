package main

import (
	"slices"
	"testing"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

func TestNewsOfACharger(t *testing.T) {
	const s, m = time.Second, time.Minute
	type step struct {
		at       time.Duration
		from, to charger.Stage // empty: only time passes
	}
	for _, tt := range []struct {
		name  string
		steps []step
		want  []string
	}{
		{"the first time", []step{{0, charger.Wifi, charger.DHCP}, {s, charger.Cloud, charger.OK}}, []string{"charger-online"}},
		{"the weekly renewal of its password", []step{{0, charger.Cloud, charger.OK}, {10 * s, charger.OK, charger.Cloud}, {25 * s, "", ""}, {27 * s, charger.Cloud, charger.OK}, {10 * m, "", ""}},
			[]string{"charger-online", "charger-back"}},
		{"it stays away, said once, and comes back", []step{{0, charger.Cloud, charger.OK}, {10 * s, charger.OK, charger.Cloud}, {4 * m, "", ""}, {6 * m, "", ""}, {60 * m, "", ""}, {61 * m, charger.DNS, charger.OK}},
			[]string{"charger-online", "charger-offline", "charger-online"}},
		{"one that was never online is not missed", []step{{0, charger.Wifi, charger.DNS}, {60 * m, "", ""}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log := event.New(event.Options{Level: event.Debug, Keep: 100})
			n := newNews(log)
			n.book = charger.NewBook(nil, nil)
			start := time.Now()
			for _, st := range tt.steps {
				if st.to == "" {
					n.look(start.Add(st.at))
					continue
				}
				n.moved(charger.Charger{MAC: charger.MAC{2, 0, 0, 0, 0, 7}}, st.from, st.to, start.Add(st.at))
			}
			var got []string
			for _, r := range log.Recent(0, "") {
				got = append(got, r.Kind.ID)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("said %v, want %v", got, tt.want)
			}
		})
	}
}
