package revive

import (
	"fmt"
	"slices"
)

// A Step is one thing that can be done about a dead radio, and how far it may go at
// most. Each step includes none of those before it.
type Step int

// The ladder, from the least that chargers notice to the most.
const (
	No      Step = iota // leave it alone
	Restart             // restart hostapd: the radio's own chargers reconnect
	Driver              // take the device from its driver and give it back
	Reboot              // restart the box
)

// words are the steps as the configuration writes them.
var words = []string{"no", "restart", "driver", "reboot"}

// Words are what the configuration may say, the least first.
func Words() []string { return slices.Clone(words) }

// ParseStep reads a word of the configuration.
func ParseStep(word string) (Step, error) {
	if i := slices.Index(words, word); i >= 0 {
		return Step(i), nil
	}
	return No, fmt.Errorf("%q is none of %q", word, words)
}

// String is the step as the configuration writes it.
func (s Step) String() string {
	if s < No || int(s) >= len(words) {
		return fmt.Sprintf("step %d", int(s))
	}
	return words[s]
}

// done is the step in the middle of a sentence.
func (s Step) done() string {
	return [...]string{"nothing that was done", "the restart of hostapd", "the new start of the driver", "the reboot"}[s]
}
