package resolver

import (
	"fmt"
	"slices"
	"time"
)

// Upstreams returns how many servers are asked for names now, how many of them
// have not answered lately, and in words what is wrong, if anything is.
func (s *Server) Upstreams() (servers, lost int, problem string) {
	all, err := s.forward.targets()
	if err != nil {
		return 0, 0, err.Error()
	}
	_, lost = s.forward.health.lost()
	if lost > 0 {
		problem = fmt.Sprintf("%d of %d DNS servers do not answer", lost, len(all))
	}
	return len(all), lost, problem
}

// A ServerState is what is known of one upstream server.
type ServerState struct {
	// Name is the server as the configuration would write it.
	Name string
	// Lost means that it has not answered the last questions.
	Lost bool
	// Latency is how long its answers usually take; 0: it has not answered yet.
	Latency time.Duration
	// Problem is what went wrong last, in words; empty after a good answer.
	Problem string
}

// Servers returns what is known of each server that is asked now, in the order of
// the configuration.
func (s *Server) Servers() []ServerState {
	all, err := s.forward.targets()
	if err != nil {
		return nil
	}
	return states(&s.forward.health, all)
}

// measured returns the servers of the last question whose latency is known. There
// are a handful: those of the configuration, and at most maxSystem of resolv.conf.
func (h *health) measured() []ServerState {
	h.mu.Lock()
	known := slices.Clone(h.known)
	h.mu.Unlock()
	return slices.DeleteFunc(states(h, known), func(s ServerState) bool { return s.Latency == 0 })
}

func states(h *health, of []target) []ServerState {
	out := make([]ServerState, 0, len(of))
	for _, t := range of {
		out = append(out, h.state(t))
	}
	return out
}

// state tells what is known of a server.
func (h *health) state(t target) ServerState {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.conditionLocked(t)
	out := ServerState{Name: t.String(), Lost: c.fails >= lostAfter, Latency: c.srtt}
	if c.err != nil {
		out.Problem = c.err.Error()
	}
	return out
}
