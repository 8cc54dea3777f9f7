package radio

import "time"

// A Network is one radio that is watched.
type Network struct {
	Name        string
	Interface   string
	MaxStations int // how many stations the radio holds (F-10)
}

// Config is what the watcher needs to know.
type Config struct {
	Networks []Network
	// Warn, Minimum and Critical are signal thresholds in dBm (Z-4): warn above
	// Zaptec's minimum, the minimum itself, and where the radio gives up.
	Warn, Minimum, Critical int
	// Every is the time between samples; zero: 30 s.
	Every time.Duration
}
