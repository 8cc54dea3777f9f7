package event

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// A Subject is whose story an event belongs to. What is unknown is empty.
type Subject struct{ Charger, MAC, IP, Network string }

// Who completes a subject from what is known of it: a MAC (zero if unknown) or
// an address (invalid if unknown).
type Who func(mac [6]byte, ip netip.Addr) Subject

// A Sink writes records somewhere. Write is called by one goroutine at a time
// and must not wait for a slow reader.
type Sink interface{ Write(Record) }

// Options shape a Log. The zero value says everything, knows nobody, and
// keeps nothing.
type Options struct {
	Level Level            // the lowest level that reaches the sinks
	Who   Who              // nil: subjects stay as they were said
	Keep  int              // how many of the last records Recent can give
	Now   func() time.Time // nil: time.Now
}

// A Log says events. It is safe for concurrent use, and a nil *Log says
// nothing.
type Log struct {
	sinks []Sink
	now   func() time.Time

	mu     sync.Mutex
	level  Level
	who    Who
	seq    uint64
	recent []Record // a ring of cap Keep; the oldest stands at seq % Keep
	keep   int
	limits map[string]*limit // by kind, subject and Per
	shares map[string]*share // by kind and subject, where Kind.Most says so
	counts map[*Kind]uint64
}

// share is what one subject has caused of one kind since since.
type share struct {
	since      time.Time
	said, held int
}

// limit remembers when the same event was last said, and how often it was held
// back since.
type limit struct {
	last time.Time
	held int
}

// maxLimits bounds the memory that strangers can cause through Kind.Per, and as
// many are the subjects that have a share.
const maxLimits = 4096

// New makes a log that writes to the sinks given.
func New(o Options, sinks ...Sink) *Log {
	l := &Log{sinks: sinks, now: o.Now, level: o.Level, who: o.Who, keep: o.Keep,
		limits: map[string]*limit{}, shares: map[string]*share{}, counts: map[*Kind]uint64{}}
	if l.now == nil {
		l.now = time.Now
	}
	return l
}

// SetLevel changes the lowest level that reaches the sinks.
func (l *Log) SetLevel(level Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.level = level
}

// SetWho changes who is asked for names. It exists because the book of
// chargers is opened after the log.
func (l *Log) SetWho(who Who) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.who = who
}

// Say records that something happened. Fields keep their order; the subject's
// fields are completed and come first.
func (l *Log) Say(k *Kind, fields ...Field) {
	if l == nil {
		return
	}
	// Who takes the book's lock: ask it outside our own.
	l.mu.Lock()
	who := l.who
	l.mu.Unlock()
	full := complete(fields, who)

	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[k]++
	now := l.now()
	held, ok := l.admitLocked(k, full, now)
	if !ok {
		return
	}
	l.seq++
	r := Record{Seq: l.seq, Time: now, Kind: k, Fields: full, Suppressed: held}
	r.Message = fill(k.Text, r)
	if l.keep > 0 {
		if len(l.recent) < l.keep {
			l.recent = append(l.recent, r)
		} else {
			l.recent[(l.seq-1)%uint64(l.keep)] = r
		}
	}
	if k.Level < l.level {
		return
	}
	for _, s := range l.sinks {
		s.Write(r)
	}
}

// admitLocked applies Kind.Every: whether to say it now, and how many were held
// back since the last time.
func (l *Log) admitLocked(k *Kind, fields []Field, now time.Time) (held int, ok bool) {
	if k.Every == 0 {
		return 0, true
	}
	subject := subjectKey(k, fields)
	key := limitKey(subject, k, fields)
	m := l.limits[key]
	if m != nil && now.Sub(m.last) < k.Every {
		m.held++
		return 0, false
	}
	if len(l.limits) >= maxLimits || len(l.shares) >= maxLimits {
		l.forgetLocked(now)
	}
	if k.Most > 0 {
		whose := shareKey(subject, k, fields)
		s := l.shares[whose]
		if s == nil {
			s = &share{since: now}
			l.shares[whose] = s
		}
		if now.Sub(s.since) >= k.Every {
			held = s.held
			*s = share{since: now}
		}
		if s.said >= k.Most {
			s.held++
			return 0, false
		}
		s.said++
	}
	if m == nil {
		m = &limit{}
		l.limits[key] = m
	}
	held += m.held
	m.held, m.last = 0, now
	return held, true
}

// forgetLocked makes room: what is older than an hour goes, and of what was not
// enough everything does. The price is a repeated line, never memory. Shares are
// forgotten apart from the rest, so that who makes up names without end does not
// get a new share by it.
func (l *Log) forgetLocked(now time.Time) {
	for key, m := range l.limits {
		if now.Sub(m.last) >= time.Hour {
			delete(l.limits, key)
		}
	}
	for key, s := range l.shares {
		if now.Sub(s.since) >= time.Hour {
			delete(l.shares, key)
		}
	}
	if len(l.limits) >= maxLimits {
		clear(l.limits)
	}
	if len(l.shares) >= maxLimits {
		clear(l.shares)
	}
}

// Recent returns the kept records with a sequence number above after, oldest
// first. With a charger's name it returns that charger's only.
func (l *Log) Recent(after uint64, charger string) []Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Record
	for i := range l.recent {
		r := l.recent[i]
		if len(l.recent) == l.keep {
			r = l.recent[(l.seq+uint64(i))%uint64(l.keep)]
		}
		if r.Seq > after && (charger == "" || r.Field(KeyCharger) == charger) {
			out = append(out, r)
		}
	}
	return out
}

// Counts returns how often each kind was said or held back.
func (l *Log) Counts() map[*Kind]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[*Kind]uint64, len(l.counts))
	for k, n := range l.counts {
		out[k] = n
	}
	return out
}

// complete puts the subject first, filled in by who.
func complete(fields []Field, who Who) []Field {
	var s Subject
	rest := make([]Field, 0, len(fields)+4)
	for _, f := range fields {
		switch f.Key {
		case KeyCharger:
			s.Charger = f.Value
		case KeyMAC:
			s.MAC = f.Value
		case KeyIP:
			s.IP = f.Value
		case KeyNetwork:
			s.Network = f.Value
		default:
			rest = append(rest, f)
		}
	}
	if who != nil && (s.MAC != "" || s.IP != "") {
		var mac [6]byte
		if hw, err := net.ParseMAC(s.MAC); err == nil && len(hw) == 6 {
			mac = [6]byte(hw)
		}
		ip, _ := netip.ParseAddr(s.IP)
		w := who(mac, ip)
		s.Charger = first(s.Charger, w.Charger)
		s.MAC = first(s.MAC, w.MAC)
		s.IP = first(s.IP, w.IP)
		s.Network = first(s.Network, w.Network)
	}
	out := make([]Field, 0, len(rest)+4)
	for _, f := range []Field{{KeyCharger, clean(s.Charger)}, {KeyMAC, s.MAC}, {KeyIP, s.IP}, {KeyNetwork, clean(s.Network)}} {
		if f.Value != "" {
			out = append(out, f)
		}
	}
	return append(out, rest...)
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// subjectKey is a kind and whose story it is.
func subjectKey(k *Kind, fields []Field) string {
	r := Record{Fields: fields}
	return k.ID + "\n" + first(r.Field(KeyMAC), first(r.Field(KeyIP), r.Field(KeyNetwork)))
}

// shareKey is who shares what Kind.Most allows: the subject alone, but all those
// together of whom nothing is known except an address, which can be made up.
func shareKey(subject string, k *Kind, fields []Field) string {
	r := Record{Fields: fields}
	if r.Field(KeyIP) != "" && r.Field(KeyMAC) == "" && r.Field(KeyCharger) == "" {
		return k.ID + "\n" + KeyIP
	}
	return subject
}

// limitKey is what makes two events the same: kind, subject, and the fields in
// Kind.Per.
func limitKey(subject string, k *Kind, fields []Field) string {
	r := Record{Fields: fields}
	key := subject
	for _, per := range k.Per {
		key += "\n" + r.Field(per)
	}
	return key
}

// fill puts the fields' values into the sentence. A field that is not there
// shows as "?", except the charger, for whom MAC, address or "somebody" stands
// in.
func fill(text string, r Record) string {
	var b strings.Builder
	for {
		open := strings.IndexByte(text, '{')
		if open < 0 {
			break
		}
		shut := strings.IndexByte(text[open:], '}')
		if shut < 0 {
			break
		}
		b.WriteString(text[:open])
		key := text[open+1 : open+shut]
		value := r.Field(key)
		if value == "" && key == KeyCharger {
			value = first(r.Field(KeyMAC), first(r.Field(KeyIP), "somebody"))
		}
		b.WriteString(first(value, "?"))
		text = text[open+shut+1:]
	}
	b.WriteString(text)
	return b.String()
}
