package resolver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Upstreams returns how many servers are asked for names now, how many of them
// have not answered lately, and in words what is wrong, if anything is.
func (s *Server) Upstreams() (servers, lost int, problem string) {
	all, err := s.forward.targets()
	if err != nil {
		return 0, 0, err.Error()
	}
	each := states(&s.forward.health, all)
	for _, one := range each {
		if one.Lost {
			lost++
		}
	}
	return len(all), lost, inShort(each)
}

// inShort says what is wrong with the servers together; empty: nothing.
func inShort(each []ServerState) string {
	var silent, useless int
	said, bad := "", ""
	for _, s := range each {
		switch {
		case s.Lost:
			silent++
			if strings.HasPrefix(s.Problem, "its certificate") {
				bad = ": " + s.Problem
			}
		case s.Errors:
			useless++
			said = s.Problem
		}
	}
	n := len(each)
	switch {
	case silent+useless == 0:
		return ""
	case n == 1 && silent == 1:
		return "the only DNS server does not answer" + bad
	case n == 1:
		return fmt.Sprintf("the only DNS server answers with errors (%s)", said)
	case silent == n:
		return fmt.Sprintf("none of %d DNS servers answers%s", n, bad)
	case silent+useless == n:
		return fmt.Sprintf("none of %d DNS servers gives an answer that can be used (%s)", n, said)
	case useless == 0 && silent == 1:
		return fmt.Sprintf("1 of %d DNS servers does not answer", n)
	case useless == 0:
		return fmt.Sprintf("%d of %d DNS servers do not answer", silent, n)
	case silent == 0 && useless == 1:
		return fmt.Sprintf("1 of %d DNS servers answers only with errors (%s)", n, said)
	case silent == 0:
		return fmt.Sprintf("%d of %d DNS servers answer only with errors (%s)", useless, n, said)
	}
	return fmt.Sprintf("%d of %d DNS servers do not answer, or only with errors (%s)", silent+useless, n, said)
}

// A ServerState is what is known of one upstream server.
type ServerState struct {
	// Name is the server as the configuration would write it.
	Name string
	// Lost means that it has not answered the last questions.
	Lost bool
	// Errors means that it answers, and to whatever it is asked with errors:
	// SERVFAIL, REFUSED, or that somebody else should be asked.
	Errors bool
	// Latency is how long its answers usually take; 0: it has not answered yet.
	Latency time.Duration
	// Problem is what went wrong last, in words; empty after a good answer.
	Problem string
	// Do is what to do about it when it is lost or gives only errors.
	Do string
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

// askEachFor is how long each server has to answer in AskEach, repetitions and a
// new connection included.
const askEachFor = 2500 * time.Millisecond

// AskEach puts one question to every server now, at the same time, and returns
// what each made of it, in the order of the configuration: Lost that it did not
// answer, Errors that it did and said nothing of use, Latency how long it took. It
// takes at most three seconds, and ends with ctx. It returns nil when there is no
// server, or no name that could be asked for.
func (s *Server) AskEach(ctx context.Context) []ServerState {
	all, err := s.forward.targets()
	names := s.proof()
	if err != nil || len(names) == 0 {
		return nil
	}
	s.forward.health.meet(all, time.Now())
	ctx, cancel := context.WithTimeout(ctx, askEachFor)
	defer cancel()
	out := make([]ServerState, len(all))
	var asking sync.WaitGroup
	for i, t := range all {
		asking.Go(func() { out[i] = s.forward.inquire(ctx, t, names[0]) })
	}
	asking.Wait()
	return out
}

// inquire asks one server, over UDP once more when nothing came: one packet lost
// says little.
func (f *forwarder) inquire(ctx context.Context, t target, name string) ServerState {
	var r report
	for range 2 {
		began := time.Now()
		once, cancel := context.WithTimeout(ctx, t.patience())
		r = f.try(once, t, name, nil)
		cancel()
		if isTimeout(r.err) {
			r.err = about(t, name, errSilent)
		}
		if ctx.Err() == nil || r.err == nil || errors.Is(r.err, errAnswer) {
			f.learn(t, name, r)
		}
		if r.err == nil && r.took == 0 {
			r.took = time.Since(began)
		}
		if !errors.Is(r.err, errSilent) || ctx.Err() != nil {
			break
		}
	}
	bad := r.err != nil
	c := condition{srtt: r.took, err: r.err, errors: bad && errors.Is(r.err, errAnswer)}
	if bad && !c.errors {
		c.fails = lostAfter
	}
	return c.state(t)
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
	return h.conditionLocked(t).state(t)
}

// state puts a condition into words.
func (c *condition) state(t target) ServerState {
	out := ServerState{Name: t.String(), Lost: c.lost(), Errors: c.errors, Latency: c.srtt}
	if c.err != nil {
		out.Problem = cause(c.err)
	}
	if out.Lost || out.Errors {
		out.Do = advice(t, c)
	}
	return out
}

// cause is what went wrong, without whom it went wrong with.
func cause(err error) string {
	var f *failure
	if errors.As(err, &f) {
		err = f.err
	}
	return strings.TrimPrefix(err.Error(), errAnswer.Error()+": ")
}
