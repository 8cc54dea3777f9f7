package radio

import (
	"time"

	"chargegate/pkg/signal"
)

// A Network is one radio that is watched.
type Network struct {
	Name        string
	Interface   string
	MaxStations int // how many stations the radio holds (F-10)
}

// Config is what the watcher needs to know.
type Config struct {
	Networks []Network
	// Signal says how what is heard is judged (Z-4).
	Signal signal.Limits
	// Every is the time between samples; zero: 15 s.
	Every time.Duration
}
