// Package air knows the 2.4 GHz band: which channels disturb each other, how much
// of the air others take, and which channel a radio should use (Z-1, Z-2).
//
// It is arithmetic on what a radio has heard and counted. What stands in a
// Neighbour was sent by strangers.
package air

// Channels that chargers can use (Z-2).
const (
	First = 1
	Last  = 11
)

// Candidates are the channels that do not disturb each other. One of them is
// recommended.
var Candidates = [...]int{1, 6, 11}

// width is what a signal of 20 MHz takes up; the channels are 5 MHz apart.
const width = 20

// Channel is the channel at a frequency in MHz; 0 where there is none in this
// band. 12, 13 and 14 are told, though no charger can use them: others do.
func Channel(mhz int) int {
	switch {
	case mhz == 2484:
		return 14
	case mhz >= 2412 && mhz <= 2472 && (mhz-2407)%5 == 0:
		return (mhz - 2407) / 5
	}
	return 0
}

// Frequency is the middle of a channel from 1 to 14 in MHz (IEEE 802.11, 15.4.4.3).
func Frequency(channel int) int {
	if channel == 14 {
		return 2484
	}
	return 2407 + 5*channel
}

// Overlap is the share of a channel that a signal of 20 MHz on another one covers:
// 1 for the same, 0 from four channels on.
func Overlap(a, b int) float64 {
	apart := Frequency(a) - Frequency(b)
	return max(0, 1-float64(max(apart, -apart))/width)
}
