package resolver

import "fmt"

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
