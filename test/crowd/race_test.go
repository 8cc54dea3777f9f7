//go:build race

package crowd

// raceEnabled says that the tests have the race detector, and so the programs
// under test get it too.
const raceEnabled = true
