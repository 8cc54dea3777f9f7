package ntprelay

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/facebook/time/ntp/chrony"
)

const (
	// maxSources is how many of chronyd's sources are asked about.
	maxSources = 32
	// sourcesFresh is how long what was said of them is good for, unless the giving
	// of time begins or ends.
	sourcesFresh = 5 * time.Second
)

// A Source is one of the clocks that chronyd follows, as chronyd sees it.
type Source struct {
	Address string // as chronyd writes it; of one that has none yet, its name
	Name    string // as the configuration writes it; empty: not known
	State   SourceState
	Stratum int
	// Reach is how the last eight questions went, the latest in the lowest bit; 1:
	// answered. People write it in octal: 377 is all of them.
	Reach uint8
	// Heard is whether there was a usable answer ever; the rest is zero if not.
	Heard bool
	// Age is how long ago the last usable answer came.
	Age time.Duration
	// Offset is by how much this box's clock was ahead of the source then, and
	// Error by how much that may be wrong.
	Offset, Error time.Duration
}

// A SourceState is what chronyd thinks of a source.
type SourceState string

// The states, as chronyd's documentation has them.
const (
	Selected    SourceState = "selected"    // the one that chronyd follows
	Candidate   SourceState = "candidate"   // agrees, and counts, too
	Outlier     SourceState = "outlier"     // agrees, and is not needed
	Jittery     SourceState = "jittery"     // too unsteady to be used
	Falseticker SourceState = "falseticker" // contradicts the others
	Unusable    SourceState = "unusable"    // answers, and is not (yet) good for anything
	Unreachable SourceState = "unreachable" // does not answer
)

// sources remembers for a moment what chronyd said of its sources, so that it is
// seldom asked however often people look.
type sources struct {
	ask func(context.Context) ([]Source, error) // nil: nobody can be asked

	mu    sync.Mutex
	known []Source
	asked time.Time
}

// Sources asks chronyd for its sources: at most once in sourcesFresh and for a
// second at the longest. Nobody who wants the time waits for it. Nil: chronyd
// does not say, or it is not chronyd that looks after the clock.
func (s *Server) Sources(ctx context.Context) []Source {
	p := &s.sources
	if p.ask == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.asked.IsZero() && time.Since(p.asked) < sourcesFresh && p.asked.After(s.now.Load().since) {
		return p.known
	}
	known, err := p.ask(ctx)
	if ctx.Err() != nil {
		return nil // who asked has gone, and nothing was learned
	}
	if err != nil {
		known = nil // that chronyd does not answer is an event of its own
	}
	p.known, p.asked = known, time.Now()
	return known
}

// askSources asks chronyd for each of its sources.
func askSources(ctx context.Context, at netip.AddrPort) ([]Source, error) {
	l, hangUp, err := callChronyd(ctx, at)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	answer, err := l.ask(chrony.NewSourcesPacket())
	if err != nil {
		return nil, err
	}
	count, ok := answer.(*chrony.ReplySources)
	if !ok || !l.fits(count.ReplyHead) {
		return nil, errAnother
	}
	list := []Source{}
	for i := range min(max(count.NSources, 0), maxSources) {
		answer, err := l.ask(chrony.NewSourceDataPacket(int32(i)))
		if err != nil {
			return nil, err
		}
		d, ok := answer.(*chrony.ReplySourceData)
		if !ok || !l.fits(d.ReplyHead) {
			return nil, errAnother
		}
		list = append(list, fromSource(d.SourceData, l.nameOf(d.SourceData)))
	}
	return list, nil
}

// nameOf asks what the configuration calls a source; empty: chronyd does not say.
func (l *line) nameOf(d chrony.SourceData) string {
	if d.Mode == chrony.SourceModeRef {
		return ""
	}
	answer, err := l.ask(chrony.NewNTPSourceNamePacket(d.IPAddr))
	if err != nil {
		return ""
	}
	if n, ok := answer.(*chrony.ReplyNTPSourceName); ok && l.fits(n.ReplyHead) {
		return n.Name
	}
	return ""
}

// fromSource turns chronyd's report of a source into ours.
func fromSource(d chrony.SourceData, name string) Source {
	const never = 1<<32 - 1 // chronyd's age of what never was
	s := Source{Address: addressOf(d, name), Name: name, Stratum: int(d.Stratum), Reach: uint8(d.Reachability)}
	s.State = stateOf(d)
	if d.SinceSample != never {
		s.Heard, s.Age = true, time.Duration(d.SinceSample)*time.Second
		s.Offset, s.Error = duration(d.LatestMeas), duration(d.LatestMeasErr)
	}
	return s
}

func addressOf(d chrony.SourceData, name string) string {
	if d.Mode == chrony.SourceModeRef { // its address is a word of four letters
		word := net.IP(d.IPAddr.IP[:4])
		return chrony.RefidToString(uint32(word[0])<<24 | uint32(word[1])<<16 | uint32(word[2])<<8 | uint32(word[3]))
	}
	if ip := d.IPAddr.ToNetIP(); ip != nil {
		return ip.String()
	}
	return name
}

func stateOf(d chrony.SourceData) SourceState {
	switch d.State {
	case chrony.SourceStateSync:
		return Selected
	case chrony.SourceStateCandidate:
		return Candidate
	case chrony.SourceStateOutlier:
		return Outlier
	case chrony.SourceStateJittery:
		return Jittery
	case chrony.SourceStateFalseTicker:
		return Falseticker
	}
	if d.Reachability == 0 {
		return Unreachable
	}
	return Unusable
}
