package dhcp

import "time"

// Datagram lets the tests from outside write a client's packets.
var Datagram = datagram

// Hurry shortens the times between two looks for other servers.
func (s *Server) Hurry(every time.Duration) {
	for _, l := range s.links {
		l.every = periods{calm: every, known: every, down: every}
	}
}

// Settled says whether the start is over on every network: it serves and stays, or
// has left that to another.
func (s *Server) Settled() bool {
	for _, l := range s.links {
		if l.place.says() == starting {
			return false
		}
	}
	return true
}
