package radio

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

// waiting bounds the notices that wait while a radio is asked. What is beyond is
// counted and lost; the next look finds what became of it.
const waiting = 256

// tell hands a notice to the one goroutine that works on them. It never waits.
func (s *Server) tell(n notice) {
	select {
	case s.notices <- n:
		s.heard[n.matter].Add(1)
	default:
		s.dropped.Add(1)
	}
}

// take works on one notice, and says whether it is worth a look at once.
func (s *Server) take(n notice, now time.Time) (look bool) {
	if n.matter == changed {
		return true
	}
	i := n.radio
	if n.ifindex != 0 {
		var ours bool
		if i, ours = s.index[n.ifindex]; !ours {
			return false // another interface, or one that the next look finds
		}
	}
	w := s.watches[i]
	switch n.matter {
	case entered: // it stands before the handshake; hostapd says when it is through
		w.knock(n.mac, now)
		w.restart(n.mac)
		v := s.posts[i].voice.Load()
		return v == nil || !v.heard
	case connected:
		w.wrong.forget(n.mac)
		delete(w.knocked, n.mac)
		come := w.stations[n.mac] == nil || w.stations[n.mac].removed
		if come {
			w.come(n.mac)
		}
		return come
	case removed:
		w.shut(n.mac, now)
		return w.remove(n.mac)
	case dismissed, resigned:
		w.part(n)
	case refused:
		w.refuse(n, now)
	case mistyped:
		w.mistype(n.mac, now)
	}
	return false
}

// A door is what a watch knows of those who do not come in, and counts of those who go.
// The counters are read by others.
type door struct {
	wrong  ledger // those with another passphrase, a doubtful sign
	full   ledger // those for whom there was no room
	others ledger // those who were refused for something else, which may be a slip

	knocked map[charger.MAC]time.Time // chargers that a full radio's driver took in, and when
	coming  map[charger.MAC]bool      // let through since the last look
	waiting map[charger.MAC]bool      // listed at the last look, and not let through since

	outside  atomic.Int64     // listed at the last look, and not let through
	wrongs   atomic.Uint64    // attempts with another passphrase
	refusals [2]atomic.Uint64 // not let in: for something else, for want of room

	goings sync.Mutex
	went   map[parting]uint64 // who has gone, by why
}

// newDoor makes a door of which nothing is known.
func newDoor() door { return door{wrong: ledger{doubtful: true}, others: ledger{doubtful: true}} }

// An exit is what is known of a station's going.
type exit struct {
	parting parting
	removed bool // the kernel has taken it out
}

// lose notes that the radio itself is gone, if nothing else was said.
func (e *exit) lose() {
	if e.parting.by == nobody {
		e.parting.by = nowhere
	}
}

// farewell counts a going, and says why it was.
func (w *watch) farewell(st *station) string {
	p := st.parting
	if _, usual := reasons[p.code]; !usual {
		p.code = 0 // a stranger may say any number
	}
	w.goings.Lock()
	defer w.goings.Unlock()
	if w.went == nil {
		w.went = map[parting]uint64{}
	}
	w.went[p]++
	return st.parting.String()
}

// A party is who says that a station goes.
type party int

// Parties.
const (
	nobody  party = iota // it was listed, and is no more
	box                  // hostapd sent it away
	itself               // it said goodbye
	nowhere              // the radio itself is gone
	anew                 // it has begun anew, without an end
)

var partyNames = [...]string{nobody: "nobody", box: "box", itself: "station", nowhere: "radio", anew: "station anew"}

// A parting is the last word on why a station goes.
type parting struct {
	by   party
	code uint16
}

// String says it in a sentence's end.
func (p parting) String() string {
	switch p.by {
	case nowhere:
		return "the radio is away"
	case anew:
		return "without a word, and it logs in anew"
	case box:
		return "this box sent it away: " + reason(p.code)
	case itself:
		return "it said goodbye: " + reason(p.code)
	}
	return "without a word"
}

// part remembers why a station is about to go. An attempt in vain ends with it.
func (w *watch) part(n notice) {
	w.wrong.over(n.mac)
	st := w.stations[n.mac]
	if st == nil || st.parting.by != nobody {
		return // the first word counts: what follows is only polite
	}
	st.parting = parting{box, n.code}
	if n.matter == resigned {
		st.parting.by = itself
	}
}

// restart notes that a station which was taken out a moment ago is there again: it had
// lost the connection, or its power, before this box knew.
func (w *watch) restart(mac charger.MAC) {
	if st := w.stations[mac]; st != nil && st.removed && st.parting.by == nobody {
		st.parting.by = anew
	}
}

// come notes a station that hostapd has let through and no look has found yet.
func (w *watch) come(mac charger.MAC) {
	if w.coming == nil {
		w.coming = map[charger.MAC]bool{}
	}
	w.coming[mac] = true
	delete(w.waiting, mac)
}

// held is how many stations the radio holds now: those of the last look and who has
// come and gone since. Those before the door take a place, too.
func (w *watch) held() int {
	n := len(w.coming) + len(w.waiting)
	for mac, st := range w.stations {
		if !st.removed && !w.coming[mac] && !w.waiting[mac] {
			n++
		}
	}
	return n
}

// remove marks a station that the kernel has taken out; false if it is none of ours.
func (w *watch) remove(mac charger.MAC) bool {
	w.wrong.over(mac)
	delete(w.coming, mac)
	delete(w.waiting, mac)
	st := w.stations[mac]
	if st == nil {
		return false
	}
	st.removed = true
	return true
}

// knock notes a charger that comes to a radio that is full by the configuration. A driver
// that takes stations in by itself (as the Raspberry Pi's own does) tells hostapd after
// that, which throws them out again, and neither says why.
func (w *watch) knock(mac charger.MAC, now time.Time) {
	if _, known := w.book.Known(mac); !known || w.net.MaxStations <= 0 || w.held() < w.net.MaxStations || w.stations[mac] != nil {
		return
	}
	if w.knocked == nil {
		w.knocked = map[charger.MAC]time.Time{}
	}
	w.knocked[mac] = now
}

// shut takes it for a refusal when such a charger is out again within seconds, without
// having tried a wrong passphrase.
func (w *watch) shut(mac charger.MAC, now time.Time) {
	since, knocked := w.knocked[mac]
	delete(w.knocked, mac)
	if knocked && now.Sub(since) < attempt && !w.wrong.trying(mac, now) {
		w.refuse(notice{matter: refused, mac: mac, code: noRoom}, now)
	}
}

// settle lets those go that the kernel has taken out since the last look. Who is back
// by now has joined anew.
func (w *watch) settle(now time.Time) {
	clear(w.coming) // this look finds them
	for mac, st := range w.stations {
		if st.removed {
			w.gone(now, mac, st)
		}
	}
}

// glance takes what a look between two rounds found: newcomers. Nobody is missed by it,
// and nobody's signal is counted twice.
func (w *watch) glance(now time.Time, got []Station) {
	for _, g := range got {
		if w.stations[g.MAC] == nil && g.Inactive < silent {
			w.see(now, g)
		}
	}
	w.crowd.look(len(w.stations), w)
}

// admitted leaves out those that the kernel lists and that are before the door: who
// has authenticated only, which anybody can with one frame and a MAC made up; and,
// where the driver does not tell who is let through, who tries a wrong passphrase.
func (w *watch) admitted(now time.Time, all []listed) []listed {
	in := all[:0]
	w.waiting = map[charger.MAC]bool{}
	for _, g := range all {
		if g.StationInfo == nil {
			continue
		}
		mac, ok := single(g.HardwareAddr)
		switch {
		case !ok:
		case g.standing == outside, g.standing == untold && w.stations[mac] == nil && w.wrong.trying(mac, now):
			w.waiting[mac] = true
		default:
			in = append(in, g)
		}
	}
	w.outside.Store(int64(len(w.waiting)))
	return in
}

// mistype takes a sign that a station has another passphrase than the radio.
func (w *watch) mistype(mac charger.MAC, now time.Time) {
	_, known := w.book.Known(mac)
	f := w.wrong.note(mac, known, now)
	if f.attempt {
		w.wrongs.Add(1)
	}
	if f.attempt && f.certain && known {
		w.book.Mistyped(mac, w.net.Name, now)
	}
	if f.tries > 0 {
		w.log.Say(event.ChargerWrongPassphrase, event.MAC(mac), event.Network(w.net.Name),
			event.F("INTERFACE", w.net.Interface), event.F("WHO", w.who(mac)), event.F("TRIES", tries(f)), event.F("COUNT", f.tries))
	}
	if f.crowd > 0 {
		w.log.Say(event.RadioWrongPassphrases, event.Network(w.net.Name), event.F("INTERFACE", w.net.Interface), event.F("COUNT", f.crowd))
	}
}

// who names a device with its MAC, which whoever stands before the charger compares.
func (w *watch) who(mac charger.MAC) string {
	if c, known := w.book.Known(mac); known {
		return fmt.Sprintf("%s (%s)", c.Name, mac)
	}
	return w.book.NameOf(mac)
}

// tries says how often, as people do.
func tries(f finding) string {
	if f.tries == 1 {
		return "1 try"
	}
	return fmt.Sprintf("%d tries in %s", f.tries, event.Duration(f.span))
}

// refuse takes a sign that a station was not let in.
func (w *watch) refuse(n notice, now time.Time) {
	_, known := w.book.Known(n.mac)
	l, count := &w.others, &w.refusals[0]
	if n.code == noRoom {
		l, count = &w.full, &w.refusals[1]
	}
	count.Add(1)
	if known && n.code == noRoom {
		w.book.TurnedAway(n.mac, w.net.Name, now)
	}
	f := l.note(n.mac, known, now)
	l.over(n.mac) // each refusal ends an attempt
	if f.tries == 0 {
		return
	}
	fields := []event.Field{event.MAC(n.mac), event.Network(w.net.Name), event.F("INTERFACE", w.net.Interface), event.F("WHO", w.who(n.mac))}
	if n.code != noRoom {
		w.log.Say(event.ChargerRefusedJoin, append(fields, event.F("REASON", status(n.code)))...)
		return
	}
	w.log.Say(event.RadioRefuses, append(fields, event.F("STATIONS", w.held()), event.F("LIMIT", w.net.MaxStations))...)
}
