package sim

import (
	"context"
	"encoding/json"
	"fmt"
)

// A Rung is how far one charger has come in the daemon's view.
type Rung struct {
	Name    string `json:"name"`
	MAC     string `json:"mac"`
	Stage   Stage  `json:"stage"`
	Address string `json:"address"`
	Advice  string `json:"advice"`
}

// Ladder asks the daemon, by way of the technician's tool, how far each charger
// has come. The map is by name.
func (g *Gateway) Ladder(ctx context.Context) (map[string]Rung, error) {
	text, err := g.Tool(ctx, "chargers", "-json")
	if err != nil {
		return nil, fmt.Errorf("asking the daemon: %w\n%s", err, text)
	}
	var answer struct {
		Chargers []Rung `json:"chargers"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return nil, fmt.Errorf("reading what chargegate chargers -json said: %w\n%s", err, text)
	}
	all := map[string]Rung{}
	for _, r := range answer.Chargers {
		all[r.Name] = r
	}
	return all, nil
}

// Stuck says which of the garage's chargers are not all the way up, in their
// own view or in the daemon's, one sentence each.
func (g *Garage) Stuck(ctx context.Context) ([]string, error) {
	ladder, err := g.Gateway.Ladder(ctx)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, v := range g.Views() {
		rung := ladder[v.Name]
		if v.Well() && rung.Stage == OK {
			continue
		}
		said := v.Trouble
		if said == "" {
			said = fmt.Sprintf("%d answers of %s so far", v.Served, API)
		}
		all = append(all, fmt.Sprintf("%s stands at %q in its own view (%s) and at %q in the daemon's. %s", v.Name, v.Stage, said, rung.Stage, rung.Advice))
	}
	return all, nil
}
