package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

// seven is the charger of the stories.
var seven = charger.Charger{MAC: charger.MAC{2, 0, 0, 0, 0, 7}, Name: "P1-07"}

func everybody(n int) []charger.Status {
	var all []charger.Status
	for i := range n {
		all = append(all, charger.Status{Known: true, Stage: charger.Cloud,
			Charger: charger.Charger{MAC: charger.MAC{2, 0, 0, 0, 0, byte(i)}, Name: fmt.Sprintf("P1-%02d", i)}})
	}
	return all
}

func said(log *event.Log) []string {
	var ids []string
	for _, r := range log.Recent(0, "") {
		ids = append(ids, r.Kind.ID)
	}
	return ids
}

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
		{"it was there before the daemon, and is lost for a moment", []step{{0, charger.OK, charger.OK}, {s, charger.OK, charger.OK}, {m, charger.OK, charger.Cloud}, {m + 5*s, charger.Cloud, charger.OK}, {11 * m, "", ""}},
			[]string{"charger-back"}},
		{"it was there before the daemon, and stays away", []step{{0, charger.OK, charger.OK}, {m, charger.OK, charger.Cloud}, {7 * m, "", ""}, {11 * m, "", ""}}, []string{"charger-offline"}},
		{"it never comes", []step{{0, charger.Wifi, charger.DNS}, {9 * m, "", ""}, {11 * m, "", ""}, {60 * m, "", ""}}, []string{"chargers-missing"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log := event.New(event.Options{Level: event.Debug, Keep: 100})
			start := time.Now()
			n := newNews(log, start)
			all := []charger.Status{{Known: true, Stage: charger.Cloud, Charger: seven}}
			for _, st := range tt.steps {
				if st.to == "" {
					n.look(all, start.Add(st.at))
					continue
				}
				n.moved(seven, st.from, st.to, start.Add(st.at))
			}
			if got := said(log); !slices.Equal(got, tt.want) {
				t.Errorf("said %v, want %v", got, tt.want)
			}
		})
	}
}

func TestManyThatStayAwayAreOneStory(t *testing.T) {
	log := event.New(event.Options{Keep: 100})
	start := time.Now()
	n := newNews(log, start)
	all := everybody(20)
	for _, c := range all {
		n.moved(c.Charger, charger.Cloud, charger.OK, start)
		n.moved(c.Charger, charger.OK, charger.Cloud, start.Add(time.Minute))
	}
	before := len(log.Recent(0, ""))
	n.look(all, start.Add(7*time.Minute))
	ids := said(log)[before:]
	if ids[0] != "chargers-offline" || len(ids) != 21 || ids[20] != "charger-away" {
		t.Errorf("said %v", ids)
	}
	if line := log.Recent(uint64(before), "")[0].Message; !strings.HasPrefix(line, "20 chargers ") || !strings.HasSuffix(line, "P1-11, and 8 more") {
		t.Errorf("said %q", line)
	}
}

func TestStrangersAreNotMissed(t *testing.T) {
	log := event.New(event.Options{Keep: 100})
	start := time.Now()
	n := newNews(log, start)
	all := everybody(3)
	all[1].Known = false
	n.moved(all[0].Charger, charger.Cloud, charger.OK, start)
	n.look(all, start.Add(11*time.Minute))
	line := log.Recent(0, "")[1].Message
	if want := "1 of 2 chargers have not come online since the start 11m ago: P1-02"; line != want {
		t.Errorf("said %q, want %q", line, want)
	}
}
