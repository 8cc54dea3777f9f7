package main

import (
	"slices"
	"time"
)

// A Scenario is one thing that must hold on the real system.
type Scenario struct {
	Name string // one word, for SCENARIO=
	What string // what it shows, in a line
	// From is where it begins: "power" is no machine at all, Run calls Power by
	// itself; otherwise the snapshot that another scenario leaves.
	From string
	// Leaves names the snapshot that is taken of its machine when it has passed;
	// "" for none.
	Leaves string
	// Limit is how long it may last, loading and saving included.
	Limit time.Duration
	// Nightly ones run only when they are asked for, by name or with -nightly.
	Nightly bool
	// Run returns nil when all of it held.
	Run func(*Lab) error
}

// scenarios are all there are, in the order in which they run.
func scenarios() []Scenario {
	return slices.Concat(
		bootScenarios(),
		powerScenarios(), // long, and waits for nobody's snapshot: beside all others
		unitScenarios(),
		darkScenarios(),
		privilegeScenarios(),
		wifiScenarios(),
		signalScenarios(),
		wrongScenarios(),
		doorScenarios(),
		journalScenarios(),
		restartScenarios(),
		radioScenarios(),
		surveyScenarios(),
		reviveScenarios(),
		clockScenarios(),
	)
}
