package status

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"chargegate/pkg/event"
)

const (
	// doctorTimeout bounds the whole self-test, checkTimeout each check that
	// asks the network: a charger itself gives up after 10 s.
	doctorTimeout = 30 * time.Second
	checkTimeout  = 10 * time.Second
	// atOnce is how many checks work at the same time.
	atOnce = 6
)

// A finding is what a check came to.
type finding struct {
	result    Result
	found, do string
}

func pass(format string, args ...any) finding {
	return finding{result: Pass, found: fmt.Sprintf(format, args...)}
}

func (f finding) advise(do string) finding {
	f.do = do
	return f
}

func warn(do, format string, args ...any) finding {
	return finding{Warn, fmt.Sprintf(format, args...), do}
}

func fail(do, format string, args ...any) finding {
	return finding{Fail, fmt.Sprintf(format, args...), do}
}

// An examination is one check to be made.
type examination struct {
	name string
	do   func(context.Context) finding
}

// doctor makes every check and returns all of them. Each is handed to emit, if
// there is one, as soon as it and those before it have ended.
func (s *Server) doctor(ctx context.Context, emit func(Check)) Doctor {
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	// Outwards first: it tells the resolver, too, which servers answer.
	checks := s.examineAll(ctx, s.outwards(time.Now()), emit)
	checks = append(checks, s.examineAll(ctx, s.inwards(time.Now()), emit)...)
	s.sayFindings(checks)
	return Doctor{OK: !slices.ContainsFunc(checks, func(c Check) bool { return c.Result != Pass }), Checks: checks}
}

// examineAll makes some checks at the same time.
func (s *Server) examineAll(ctx context.Context, list []examination, emit func(Check)) []Check {
	checks := make([]Check, len(list))
	done := make([]chan struct{}, len(list))
	turns := make(chan struct{}, atOnce)
	var working sync.WaitGroup
	defer working.Wait()
	for i, e := range list {
		done[i] = make(chan struct{})
		working.Go(func() {
			defer close(done[i])
			turns <- struct{}{}
			defer func() { <-turns }()
			checks[i] = s.examine(ctx, e)
		})
	}
	for i := range list {
		<-done[i]
		if emit != nil {
			emit(checks[i])
		}
	}
	return checks
}

// examine makes one check, within its time.
func (s *Server) examine(ctx context.Context, e examination) (c Check) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	began := time.Now()
	defer func() {
		if p := recover(); p != nil {
			s.log.Say(event.PanicRecovered, event.F("SERVICE", "status"), event.F("ERROR", p), event.F("STACK", string(debug.Stack())))
			c = Check{Name: e.name, Result: Fail, Found: "the check itself failed", Do: "Send the panic-recovered line of the log to whoever maintains this box."}
		}
		c.Took = Seconds(time.Since(began))
	}()
	f := e.do(ctx)
	return Check{Name: e.name, Result: f.result, Found: f.found, Do: f.do}
}

// sayFindings leaves a trace in the log that somebody asked.
func (s *Server) sayFindings(checks []Check) {
	count := map[Result]int{}
	var failed []string
	for _, c := range checks {
		count[c.Result]++
		if c.Result == Fail {
			failed = append(failed, c.Name)
		}
	}
	s.log.Say(event.DoctorFinished, event.F("OK", count[Pass]), event.F("WARN", count[Warn]), event.F("FAIL", count[Fail]),
		event.F("FAILED", orElse(strings.Join(failed, ", "), "none")))
}

// known makes an examination of what is known already.
func known(name string, f finding) examination {
	return examination{name, func(context.Context) finding { return f }}
}

// outwards lists the checks of this box and its way out. What main gave no
// source for is left out.
func (s *Server) outwards(now time.Time) []examination {
	st := s.status(now)
	var list []examination
	sure := true
	if st.Clock != nil {
		sure = st.Clock.Synchronised
		list = append(list, known("clock", checkClock(*st.Clock)))
	}
	return append(list, s.ways(st.Rules, sure)...)
}

// inwards lists the checks of what the rooms know of themselves and of the
// chargers.
func (s *Server) inwards(now time.Time) []examination {
	st := s.status(now)
	var list []examination
	if st.Uplink != nil {
		list = append(list, known("dns servers", checkUplink(*st.Uplink)))
	}
	for _, n := range st.Networks {
		if n.Pool != nil {
			list = append(list, known("addresses "+n.Name, checkPool(*n.Pool)))
		}
		if n.Radio != nil {
			list = append(list, known("radio "+n.Name, checkRadio(*n.Radio, s.src.Book.Inventory(n.Name), s.src.Book.NameOf)))
		}
	}
	inventory := s.src.Book.Inventory("")
	list = append(list, known("inventory", checkInventory(st.Chargers, inventory)))
	if inventory > 0 {
		list = append(list, known("strangers", checkStrangers(st.Chargers)))
	}
	return append(list, known("chargers", checkChargers(st.Chargers)))
}
