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
	checks := s.outwards(ctx, emit)
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

// outwards makes the checks of this box and its way out, from the cable up. What
// main gave no source for is left out. Names are asked for before anything is
// said of the servers: that tells the resolver, too, which of them answer.
func (s *Server) outwards(ctx context.Context, emit func(Check)) []Check {
	st := s.status(time.Now())
	var checks []Check
	tell := func(more ...Check) {
		checks = append(checks, more...)
		for _, c := range more {
			if emit != nil {
				emit(c)
			}
		}
	}
	look := func(list ...examination) { checks = append(checks, s.examineAll(ctx, list, emit)...) }
	cut := ""
	if st.Link != nil {
		look(known("uplink", checkLink(*st.Link)))
		if st.Link.Down() {
			cut = "the uplink is down"
		}
	}
	names, ways := s.ways(st.Rules, st.Clock == nil || st.Clock.Synchronised)
	var resolved []Check
	if cut == "" {
		var each []DNSServer
		asking := examination{"dns servers", func(ctx context.Context) finding { each = s.askEach(ctx); return finding{} }}
		resolved = s.examineAll(ctx, append([]examination{asking}, names...), nil)[1:]
		st = s.status(time.Now())
		if st.Uplink != nil && len(each) > 0 {
			st.Uplink = new(st.Uplink.asked(each))
		}
	}
	if u := st.Uplink; u != nil && (cut == "" || !u.OK()) { // of silence nothing can be told while the uplink is down
		look(known("dns servers", checkUplink(*u)))
	}
	if st.Clock != nil {
		look(known("clock", checkClock(*st.Clock)))
	}
	switch {
	case cut != "":
		tell(untried("names", names, cut)...)
	case st.Uplink != nil && !st.Uplink.OK():
		cut = "no DNS server gives an answer"
		tell(folded(resolved)...)
	default:
		tell(resolved...)
	}
	if cut != "" {
		tell(untried("ways", ways, cut)...)
		return checks
	}
	look(ways...)
	return checks
}

// askEach puts one question to every DNS server, if main can.
func (s *Server) askEach(ctx context.Context) []DNSServer {
	if s.src.AskEach == nil {
		return nil
	}
	return s.src.AskEach(ctx)
}

// asked is what each server made of one question, instead of what was known
// before.
func (u Uplink) asked(each []DNSServer) Uplink {
	u = Uplink{Servers: len(each), Each: each}
	for _, s := range each {
		switch {
		case s.Lost:
			u.Lost++
		case s.Errors:
			u.Errors++
		}
	}
	return u
}

// untried is one line instead of many that would all say the same.
func untried(name string, list []examination, why string) []Check {
	if len(list) == 0 {
		return nil
	}
	var each []string
	for _, e := range list {
		_, what, _ := strings.Cut(e.name, " ")
		each = append(each, what)
	}
	return []Check{{Name: name, Result: Warn, Found: fmt.Sprintf("not tried: %s, because %s", listed(each), why), Do: "Mend that first, then run chargegate doctor again."}}
}

// folded makes one line of names of which none could be resolved.
func folded(names []Check) []Check {
	if len(names) < 2 || slices.ContainsFunc(names, func(c Check) bool { return c.Result != Fail }) {
		return names
	}
	var each []string
	for _, c := range names {
		each = append(each, strings.TrimPrefix(c.Name, "name "))
	}
	one := names[0]
	one.Name, one.Found = "names", "none can be resolved: "+listed(each)
	return []Check{one}
}

// inwards lists the checks of what the rooms know of themselves and of the
// chargers.
func (s *Server) inwards(now time.Time) []examination {
	st := s.status(now)
	var list []examination
	for _, n := range st.Networks {
		if n.Problem != "" && (n.Radio == nil || n.Problem != n.Radio.Wrong()) {
			list = append(list, known("network "+n.Name, fail(n.Do, "%s", n.Problem)))
		}
		if n.Pool != nil {
			list = append(list, known("addresses "+n.Name, checkPool(*n.Pool)))
		}
		if n.Radio != nil {
			list = append(list, known("radio "+n.Name, checkRadio(n, s.src.Book.Inventory(n.Name), s.src.Book.NameOf)))
		}
	}
	inventory := s.src.Book.Inventory("")
	list = append(list, known("inventory", checkInventory(st.Chargers, inventory)))
	if inventory > 0 {
		list = append(list, known("strangers", checkStrangers(st.Chargers)))
	}
	return append(list, known("chargers", checkChargers(st.Chargers)))
}
