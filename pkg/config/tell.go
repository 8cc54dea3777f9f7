package config

import "chargegate/pkg/event"

// Tell says each fault as an event.
func (fs Faults) Tell(log *event.Log) {
	for _, f := range fs {
		fields := []event.Field{event.F("WHERE", f.where()), event.F("FAULT", f.Text), event.F("FILE", f.File)}
		if f.Line > 0 {
			fields = append(fields, event.F("LINE", f.Line), event.F("COLUMN", f.Column))
		}
		if f.Key != "" {
			fields = append(fields, event.F("KEY", f.Key))
		}
		log.Say(event.ConfigFault, fields...)
	}
}

// Tell says what is worth knowing about a configuration that has no fault:
// which addresses were chosen, and what somebody may regret.
func (c *Config) Tell(log *event.Log) {
	for i, n := range c.Networks {
		if c.auto[i] {
			log.Say(event.ConfigAddressChosen, event.Network(n.Name), event.F("INTERFACE", n.Interface), event.F("ADDRESS", n.Gateway))
		}
		r := n.Radio
		if r == nil {
			continue
		}
		if r.Channel != 1 && r.Channel != 6 && r.Channel != 11 {
			log.Say(event.ConfigChannelBetween, event.Network(n.Name), event.F("CHANNEL", r.Channel))
		}
		if n.Chargers > r.MaxStations {
			log.Say(event.ConfigRadioTooSmall, event.Network(n.Name), event.F("CHARGERS", n.Chargers), event.F("STATIONS", r.MaxStations))
		}
	}
	for _, name := range c.forced {
		log.Say(event.ConfigSharedNameForced, event.F("NAME", name))
	}
}
