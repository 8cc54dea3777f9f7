package wire

import "time"

// Watched is what the agent has seen since the guest was switched on, where the
// kernel's command line holds the word lab.watch. Times are those of the kernel's
// monotonic clock, as systemd's are.
type Watched struct {
	// Up is when each of the gateway's interfaces was up for the first time.
	Up map[string]time.Duration
	// Air is when the first frame of any radio was sent; 0: none yet.
	Air time.Duration
	// Rounds is how often everything was tried, from each namespace.
	Rounds map[string]int
	// Answers are what came back, by namespace and what it was ("tcp 53 open").
	Answers map[string]map[string]Answered
}

// Answered is how often an answer of one kind came, and when the first one did.
type Answered struct {
	First time.Duration
	Times int
}
