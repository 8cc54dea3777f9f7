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
