package main

import (
	"slices"
	"testing"

	"chargegate/pkg/charger"
	"chargegate/pkg/status"
)

func TestCauseThatManyShareIsSaidOnce(t *testing.T) {
	all := make([]status.Charger, 6)
	for i, advice := range []string{"", "no cable", "no cable", "no cable", "", "no cable"} {
		all[i].Status = charger.Status{Known: true, Advice: advice}
	}
	var got []string
	for _, r := range (&call{}).statusTable(all).rows {
		said := ""
		if len(r.notes) > 0 {
			said = r.notes[0]
		}
		got = append(got, said)
	}
	if want := []string{"", "", "", "These 3: no cable", "", "no cable"}; !slices.Equal(got, want) {
		t.Errorf("said %q, want %q", got, want)
	}
}
