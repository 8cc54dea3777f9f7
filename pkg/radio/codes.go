package radio

import "fmt"

// reasons says in words why a station has been let go, or went (IEEE 802.11-2020,
// table 9-49). Those that never come up between a charger and this box are left out.
var reasons = map[uint16]string{
	1:  "for no reason given",
	2:  "its authentication is not valid any more",
	3:  "it leaves the network",
	4:  "it was silent for too long",
	5:  "the access point cannot hold it",
	6:  "it sent before it was authenticated",
	7:  "it sent before it was associated",
	8:  "it leaves for another access point or none",
	9:  "it is not authenticated",
	13: "an element of the handshake is wrong",
	14: "a frame was forged or damaged (MIC failure)",
	15: "the 4-way handshake came to no end",
	16: "the handshake for the group's key came to no end",
	17: "what it said in the handshake differs from before",
	18: "it wants another group cipher",
	19: "it wants another cipher",
	20: "it wants another kind of key management",
	23: "its login was refused",
	24: "its cipher is refused by policy",
	32: "the access point has no time for it",
	34: "it acknowledges too few frames",
	39: "it did not answer in time",
	45: "the other end wants it so",
}

// reason writes a reason code.
func reason(code uint16) string {
	if words, ok := reasons[code]; ok {
		return fmt.Sprintf("%s (reason %d)", words, code)
	}
	return fmt.Sprintf("reason %d", code)
}

// noRoom is the status code of an access point that can hold no more stations.
const noRoom = 17

// statuses says in words why a station was not let in (IEEE 802.11-2020, table 9-50).
var statuses = map[uint16]string{
	1:  "for no reason given",
	10: "it wants what this radio cannot do",
	12: "for a reason outside of the standard",
	13: "it wants another way to log in, as of WPA3",
	14: "its messages came in the wrong order",
	15: "it failed the challenge",
	16: "it took too long",
	17: "there is no room",
	18: "it cannot do the basic rates",
	30: "it is to try again later",
	31: "it breaks the rules of protected frames",
	37: "it is not wanted",
	40: "what it wants for security is malformed",
	41: "it wants another group cipher",
	42: "it wants another cipher",
	43: "it wants another kind of key management, as of WPA3",
	44: "its version of RSN is not known",
	45: "it wants protected management frames or other abilities",
	46: "its cipher is refused by policy",
	53: "it names a key that is not known any more",
}

// status writes a status code.
func status(code uint16) string {
	if words, ok := statuses[code]; ok {
		return fmt.Sprintf("%s (status %d)", words, code)
	}
	return fmt.Sprintf("status %d", code)
}
