// Package radio watches how well each charger is heard. Every 15 seconds it
// asks the kernel (nl80211) who is on each radio, tells the book who has come
// and gone, has each charger's signal judged (Z-4), and says what has lasted: warned
// before Zaptec's minimum, alarmed below it, and told of a channel that is disturbed
// where a good signal does not help. What it measures is the uplink, how well this
// box hears the charger; a radio that reports no signal is said to do so once, and its
// chargers' signal is unknown, never 0 dBm (F-11). The number of stations is watched against
// what the radio can hold (F-10).
//
// On a radio is who has been let through: the driver's flag AUTHORIZED, which takes the
// passphrase. Anybody can have the kernel list a MAC with a single frame; such ones only
// take a place, and are counted. Where a driver does not tell, whoever it lists counts.
//
// Without nl80211, without the interface, or before hostapd has made it an
// access point, the room says so once and goes on looking.
//
// Between two rounds it listens: the kernel tells who was taken out, and what
// hostapd sent to a station that it refused or sent away; hostapd tells of wrong
// passphrases, and why a station said goodbye. Whoever tells is only believed
// after a look. Devices may tell what they like under whatever MAC: what is
// remembered and said of those that nobody knows is bounded (Z-10).
//
// It leaves to others the access point itself, what a charger does after it has
// joined, and showing the samples.
package radio

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/hostapd"
	"chargegate/pkg/signal"
)

// pace is the time between two rounds when the configuration names none.
const pace = 15 * time.Second

// patience is how many rounds are left out after one that found no nl80211.
const patience = 20

// A notice is followed by a look, soon, so that those that come together are seen
// together; and not too often, since each look costs some radios' firmware a question
// for each station.
const (
	soon   = 300 * time.Millisecond
	seldom = 3 * time.Second
)

// A Sample is what the last look at one radio found.
type Sample struct {
	Network     string
	Interface   string
	State       State
	Problem     string    // why State is not Watched, in words; else empty
	At          time.Time // when it was looked at; zero: never
	Frequency   int       // MHz, on which it serves as the kernel says; 0: not known
	Unheard     string    // why hostapd has not been heard for a minute, though the radio serves; empty: it is
	MaxStations int       // as configured; 0: not known
	NoSignal    bool      // the radio is known to report no signal (F-11)
	Stations    []Station // by MAC; what was last known when State is Failed
}

// A Server watches the radios. It is safe for concurrent use.
type Server struct {
	every   time.Duration
	watches []*watch
	present []presence // beside watches
	book    *charger.Book
	log     *event.Log
	dial    func(context.Context) (stations, func(), error)
	listen  func(ctx context.Context, tell func(notice)) error
	attach  func(ctx context.Context, ifname string, hear func(hostapd.Event) bool) (speaker, error)
	posts   []post // beside watches
	notices chan notice
	index   map[int]int // place in watches by the interface's number, as of the last look

	rounds  [3]atomic.Uint64       // by result: see roundResults
	heard   [matters]atomic.Uint64 // notices
	dropped atomic.Uint64          // notices for which there was no room
	deaf    atomic.Uint64          // times that the kernel's socket had to be opened anew

	mu      sync.Mutex
	limit   signal.Limits
	samples []Sample // beside watches
}

// Results of asking one radio, for the metrics.
const (
	answered = iota
	away
	failed
)

// New makes the watcher. Networks without a radio are not in cfg.
func New(cfg Config, book *charger.Book, log *event.Log) *Server {
	s := &Server{every: cfg.Every, book: book, log: log, dial: dial, present: make([]presence, len(cfg.Networks)),
		listen: listen, attach: attach, posts: make([]post, len(cfg.Networks)), notices: make(chan notice, waiting)}
	s.SetLimits(cfg.Signal)
	if s.every <= 0 {
		s.every = pace
	}
	for _, n := range cfg.Networks {
		s.watches = append(s.watches, &watch{
			net: n, every: s.every, book: book, log: log, stations: map[charger.MAC]*station{}, left: map[charger.MAC]*past{}, door: newDoor(),
		})
		s.samples = append(s.samples, Sample{Network: n.Name, Interface: n.Interface, State: Waiting, MaxStations: n.MaxStations})
	}
	return s
}

// Name returns "radio".
func (s *Server) Name() string { return "radio" }

// Listen takes nothing and cannot fail: a radio may be plugged in at any time,
// and a garage without one is served all the same.
func (s *Server) Listen() error { return nil }

// Serve looks at the radios, at once, then round after round, and between two rounds
// when something is told, until ctx is done. It never returns an error: a radio that
// is away is weather.
func (s *Server) Serve(ctx context.Context) error {
	if len(s.watches) == 0 {
		<-ctx.Done()
		return nil
	}
	var ears sync.WaitGroup
	defer ears.Wait()
	ears.Go(func() { s.hearKernel(ctx) })
	for i := range s.watches {
		ears.Go(func() { s.attend(ctx, i) })
	}
	s.work(ctx)
	return nil
}

// work does the rounds, and what is told between them.
func (s *Server) work(ctx context.Context) {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	due := time.NewTimer(0) // for a look between two rounds
	defer due.Stop()
	due.Stop()
	turns := turns{}
	turns.round(s, ctx)
	looked, armed := time.Now(), false
	for {
		select {
		case <-tick.C:
			turns.round(s, ctx)
			looked = time.Now()
		case n := <-s.notices:
			if s.take(n, time.Now()) && !armed {
				armed = true
				due.Reset(max(soon, seldom-time.Since(looked)))
			}
		case <-due.C:
			armed = false
			turns.glance(s, ctx)
			looked = time.Now()
		case <-ctx.Done():
			return
		}
	}
}

// turns remembers that there is no nl80211, which is said once and asked for seldom.
type turns struct {
	skip int
	said bool
}

// round is a round, unless it is to be left out.
func (t *turns) round(s *Server, ctx context.Context) {
	if t.skip > 0 {
		t.skip--
		return
	}
	err := s.round(ctx, time.Now())
	if ctx.Err() != nil {
		return
	}
	t.skip = 0
	if err == nil {
		t.said = false
		return
	}
	t.skip = patience
	if !t.said {
		s.log.Say(event.RadioUnsupported, event.Err(err))
	}
	t.said = true
}

// glance is a look between two rounds; one that finds no nl80211 says nothing.
func (t *turns) glance(s *Server, ctx context.Context) {
	if s.between(ctx, time.Now()) == nil {
		t.skip = 0
	}
}

// Samples returns what the last look at each radio found, in the order of the
// configuration. The caller may keep it.
func (s *Server) Samples() []Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Clone(s.samples)
	for i := range out {
		out[i].Stations = slices.Clone(out[i].Stations)
	}
	return out
}
