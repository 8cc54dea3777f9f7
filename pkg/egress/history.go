package egress

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/hello"
)

// A Conversation is one that is open.
type Conversation struct {
	Name   string
	Port   uint16
	By     string         // what told the name: "sni", "host", "address" or "hub"
	Reason string         // of the rule that allows it
	Remote netip.AddrPort // the server
	Opened time.Time
	Moved  time.Time // when a byte last moved
	Up     int64     // bytes from the charger
	Down   int64     // bytes to it
	Taken  int       // how many processes have taken it over, after a restart or a crash
}

// What became of a call, as Past.Outcome says it.
const (
	Ended       = "ended"       // it was carried
	Refused     = "refused"     // it was not let out
	Unreachable = "unreachable" // it was let out, and nobody answered
)

// A Past is a conversation that is over, or a call that came to nothing. Those that
// follow each other and differ in nothing but their bytes are one: firmware comes in
// some seventy (F-7).
type Past struct {
	Outcome  string
	Name     string         // asked for; empty: none
	Port     uint16         // 0: not known
	Cause    string         // why it came to nothing, in one word: of refusals or causes
	Reason   string         // in words
	Remote   netip.AddrPort // the server of the last one; the zero one: none
	Count    int
	First    time.Time // when the first of them ended, and
	At       time.Time // the last
	Lasted   time.Duration
	Up, Down int64 // bytes, of all of them
}

// follows reports whether another one can be counted with p.
func (p Past) follows(q Past) bool {
	return p.Outcome == q.Outcome && p.Name == q.Name && p.Port == q.Port && p.Reason == q.Reason
}

const (
	// keptPast is how many of a share are remembered.
	keptPast = 20
	// maxHistories bounds the shares that are: one for each lease and network, as a
	// rule. Those that were silent longest make room. Together they hold 15 MB where
	// everybody asks for the longest names there are, and 2 MB as a rule.
	maxHistories = 2048
)

// histories remember what became of each share's last calls.
type histories struct {
	mu sync.Mutex
	of map[share][]Past // oldest first
}

func (h *histories) note(sh share, p Past) {
	sh = sh.whole()
	p.Count, p.First = 1, p.At
	h.mu.Lock()
	defer h.mu.Unlock()
	past := h.of[sh]
	if n := len(past); n > 0 && past[n-1].follows(p) {
		last := &past[n-1]
		last.Count++
		last.At, last.Lasted, last.Up, last.Down = p.At, last.Lasted+p.Lasted, last.Up+p.Up, last.Down+p.Down
		last.Remote = p.Remote
		return
	}
	if past == nil && len(h.of) >= maxHistories {
		h.makeRoomLocked()
	}
	if len(past) >= keptPast {
		past = append(past[:0], past[1:]...)
	}
	p.Name = strings.Clone(p.Name) // not the hello it was cut from
	h.of[sh] = append(past, p)
}

// makeRoomLocked forgets some that were silent longest, so that whoever takes ever
// new leases seldom has all of them looked at.
func (h *histories) makeRoomLocked() {
	shares := make([]share, 0, len(h.of))
	for sh := range h.of {
		shares = append(shares, sh)
	}
	last := func(sh share) time.Time { return h.of[sh][len(h.of[sh])-1].At }
	slices.SortFunc(shares, func(x, y share) int { return last(x).Compare(last(y)) })
	for _, sh := range shares[:maxHistories/8] {
		delete(h.of, sh)
	}
}

// last returns what is remembered of some shares, the newest first.
func (h *histories) last(of func(share) bool) []Past {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []Past
	for sh, past := range h.of {
		if of(sh) {
			all = append(all, past...)
		}
	}
	slices.SortStableFunc(all, func(x, y Past) int { return y.At.Compare(x.At) })
	return all[:min(len(all), keptPast)]
}

// Conversations returns what a device has open, the longest first, and its last calls
// that are over, the newest first. addr, where it is known, tells the device from one
// that uses its MAC on another network.
func (s *Server) Conversations(mac charger.MAC, addr netip.Addr) (open []Conversation, past []Past) {
	at := s.networkOf(addr)
	its := func(sh share) bool {
		return sh.mac == mac && (!at.IsValid() || sh.network == at)
	}
	s.mu.Lock()
	var mine []*conversation
	for c := range s.open {
		if its(c.share) {
			mine = append(mine, c)
		}
	}
	s.mu.Unlock()
	for _, c := range mine {
		open = append(open, s.describe(c))
	}
	slices.SortFunc(open, func(x, y Conversation) int { return x.Opened.Compare(y.Opened) })
	return open, s.past.last(its)
}

func (s *Server) describe(c *conversation) Conversation {
	_, rule := s.list.Decide(c.name, c.port)
	c.mu.Lock()
	up, down := c.countLocked()
	moved := c.meter.moved
	if up != c.meter.up || down != c.meter.down {
		moved = time.Now()
	}
	c.mu.Unlock()
	return Conversation{Name: c.name, Port: c.port, By: c.by, Reason: rule.Reason, Remote: c.remote,
		Opened: c.opened, Moved: moved, Up: up, Down: down, Taken: c.taken}
}

// remember notes that a conversation is over.
func (s *Server) remember(c *conversation, reason string, up, down int64, now time.Time) {
	s.past.note(c.share, Past{Outcome: Ended, Name: c.name, Port: c.port, Reason: reason, Remote: c.remote,
		At: now, Lasted: now.Sub(c.opened), Up: up, Down: down})
}

// cameToNothing notes a call that was refused or found nobody, for a reason in
// words. What strangers made up is in name alone.
func (s *Server) cameToNothing(caller netip.Addr, outcome, cause, name string, port uint16, reason string) {
	s.past.note(s.shareOf(caller), Past{Outcome: outcome, Cause: cause, Name: shown(name), Port: port, Reason: reason, At: time.Now()})
}

// Why a call was refused, in one word.
const (
	causeName     = "name"     // it is not on the list
	causePort     = "port"     // it is, and not on this port
	causePlain    = "plain"    // only TLS is allowed
	causeNameless = "nameless" // nothing told a name
	causeHello    = "hello"    // it did not say what it wants
	causeDirect   = "direct"   // it called the proxy's own port
	causeLimit    = "limit"    // there were too many already
)

// causeOf is the cause of a decision that refuses.
func causeOf(r result) string {
	switch r {
	case resultUnknownName:
		return causeName
	case resultWrongPort:
		return causePort
	case resultNotTLS:
		return causePlain
	}
	return causeNameless
}

// whyNot says in words why a decision refuses.
func whyNot(d decision, h hello.Hello) string {
	switch d.result {
	case resultUnknownName:
		return "the name is not on the list"
	case resultWrongPort:
		return "the name is allowed on " + portsInWords(d.rule.Ports) + " only"
	case resultNotTLS:
		return "it speaks " + protocolInWords(h) + " where only TLS is allowed"
	}
	return "it named no server, and " + d.namelessInWords()
}
