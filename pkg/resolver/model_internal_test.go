package resolver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// A history is an upstream that does as chance has it, and notes what it said.
type history struct {
	rnd *rand.Rand

	mu    sync.Mutex
	mood  int // how likely it is not to answer, in percent
	said  map[string][]saying
	asked map[string]time.Time // when the last question came
	next  int
}

type saying struct {
	at time.Time
	answer
	err error
}

func (hi *history) ask(ctx context.Context, name string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	hi.mu.Lock()
	defer hi.mu.Unlock()
	hi.asked[name] = time.Now()
	s := saying{}
	ttl := min(max(time.Duration(hi.rnd.ExpFloat64()*float64(2*time.Minute)).Truncate(time.Second), minTTL), maxTTL)
	late := time.Duration(hi.rnd.Int64N(int64(300 * time.Millisecond)))
	switch roll := hi.rnd.IntN(100); {
	case roll < hi.mood/2:
		s.err = fmt.Errorf("%w: SERVFAIL", errAnswer)
	case roll < hi.mood:
		s.err, late = errDown, time.Duration(hi.rnd.Int64N(int64(2*budget)))
	case roll > 96:
		s.answer = answer{rcode: dns.RcodeNameError}
	case roll > 92:
		s.answer = answer{rcode: dns.RcodeNameError, ttl: ttl, soa: &dns.SOA{
			Hdr: dns.RR_Header{Name: "net.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: uint32(ttl / time.Second)}, Ns: ".", Mbox: ".", Minttl: 3600}}
	default:
		hi.next++
		s.answer = addresses(ttl, fmt.Sprintf("198.18.%d.%d", hi.next>>8&0xff, hi.next&0xff))
		s.records[0].Header().Name = name
	}
	hi.mu.Unlock()
	timer := time.NewTimer(late)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		s.answer, s.err = answer{}, ctx.Err()
	}
	hi.mu.Lock()
	s.at = time.Now()
	hi.said[name] = append(hi.said[name], s)
	return s.answer, s.err
}

// judge says what is wrong with an answer that was asked for at began and came
// now, or "".
func (hi *history) judge(name string, o outcome, began, now time.Time) string {
	hi.mu.Lock()
	defer hi.mu.Unlock()
	var proven, last saying
	for _, s := range hi.said[name] {
		if last = s; s.err == nil && s.ttl > 0 {
			proven = s
		}
	}
	age := now.Sub(proven.at)
	has := len(proven.addrs) > 0
	right := has && o.first == proven.addrs[0].String()
	switch {
	case o.rcode == dns.RcodeServerFailure:
		if has && began.Sub(proven.at) < proven.ttl+staleFor {
			return "a failure, though there is an address"
		}
	case o.stale:
		switch {
		case !right:
			return "an old address, but not the last one"
		case began.Sub(proven.at) < proven.ttl:
			return "called old before its end"
		case began.Sub(proven.at) >= proven.ttl+staleFor:
			return "too old"
		case o.ttl != staleTTL:
			return "an old address with another TTL"
		case !hi.asked[name].After(proven.at):
			return "an old address, and nobody was asked for a new one"
		case o.took > staleAfter:
			return "an old address, too late"
		}
	case o.first != "":
		switch {
		case !right:
			return "not the address that was said last"
		case age >= proven.ttl:
			return "a new address after its end"
		case o.ttl < 1 || time.Duration(o.ttl)*time.Second >= proven.ttl-age+time.Second:
			return "a TTL longer than what is left"
		}
	case o.rcode == dns.RcodeNameError:
		unproven := last.err == nil && last.ttl == 0 && last.at.Equal(now)
		if !unproven && (has || age >= proven.ttl) {
			return "no such name, which nobody has said"
		}
		if !unproven && time.Duration(o.ttl)*time.Second >= proven.ttl-age+time.Second {
			return "a negative TTL longer than what is left"
		}
	default:
		return "something else"
	}
	if o.took > askerPatience {
		return "too late"
	}
	return ""
}

// Whatever the upstreams do, in whatever order it is asked for, and however long
// the nights are: an answer is one that was given, by its age and by its TTL, and
// what is remembered is bounded.
func TestWhateverTheUpstreamsDo(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := map[string]int{}
	t.Run("seeds", func(t *testing.T) {
		for seed := range uint64(16) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					rnd := rand.New(rand.NewPCG(seed, 0))
					hi := &history{rnd: rand.New(rand.NewPCG(seed, 1)), said: map[string][]saying{}, asked: map[string]time.Time{}}
					h := build(t, newCloud(answer{}), Config{}, ocpp)
					h.memory.ask = hi.ask
					defer h.memory.shut()
					stop := func() {}
					if seed%4 > 0 {
						stop = h.live()
					}
					ask := func(name string) {
						began := time.Now()
						o := h.hears(name)
						if fault := hi.judge(name, o, began, time.Now()); fault != "" {
							t.Errorf("%s: %s: %+v", name, fault, o)
						}
						mu.Lock()
						defer mu.Unlock()
						seen[fmt.Sprint(dns.RcodeToString[o.rcode], " ", o.first != "", " ", o.stale)]++
					}
					for range 200 {
						names := []string{hub, api, fmt.Sprintf("n%d.ocpp.example.com.", rnd.IntN(3))}
						name := names[rnd.IntN(len(names))]
						switch roll := rnd.IntN(100); {
						case roll < 5:
							hi.mu.Lock()
							hi.mood = []int{0, 0, 10, 50, 100}[rnd.IntN(5)]
							hi.mu.Unlock()
						case roll < 6 && seed%4 > 0: // the room is started anew
							stop()
							stop = h.live()
						case roll < 8: // a stranger
							for range 20 {
								ask(fmt.Sprintf("x%d.ocpp.example.com.", rnd.IntN(1<<20)))
							}
						case roll < 15: // a herd
							var wg sync.WaitGroup
							for range 4 {
								wait := time.Duration(rnd.IntN(int(2 * time.Second)))
								wg.Go(func() { time.Sleep(wait); ask(name) })
							}
							wg.Wait()
						default:
							ask(name)
						}
						longest := []time.Duration{time.Second, time.Minute, time.Minute, 10 * time.Minute, 5 * time.Hour}[rnd.IntN(5)]
						if rnd.IntN(150) == 0 {
							longest = 100 * time.Hour
						}
						time.Sleep(time.Duration(rnd.Int64N(int64(longest))))
					}
					stop()
					if n := h.memory.size(); n > maxNames+4 || len(h.memory.flights) > 0 {
						t.Errorf("%d names are remembered, %d on their way", n, len(h.memory.flights))
					}
				})
			})
		}
	})
	if len(seen) < 4 { // found, old, none, failed
		t.Errorf("the seasons were dull: %v", seen)
	}
}
