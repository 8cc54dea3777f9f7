package egress

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"chargegate/pkg/carry"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"golang.org/x/sys/unix"
)

// TLS is never opened. But the first record that each side sends after the hello
// has its type in clear (RFC 8446, 5.1), and before TLS 1.3 so has an alert. That
// is enough to tell a server that refuses the hello, a box in between that answers
// in its place, and a charger that refuses the certificate. In TLS 1.3 the
// charger's alert is encrypted; chargers speak 1.2 (Z-8).

// Record types and alert levels.
const (
	recordCipherChange = 20
	recordAlert        = 21
	recordHandshake    = 22
	recordData         = 23

	alertFatal = 2
)

// alertNames are the descriptions of alerts (RFC 5246, 7.2; RFC 8446, 6; RFC 6066,
// 9; RFC 7301, 3.2).
var alertNames = map[byte]string{
	0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 21: "decryption_failed", 22: "record_overflow",
	30: "decompression_failure", 40: "handshake_failure", 41: "no_certificate", 42: "bad_certificate",
	43: "unsupported_certificate", 44: "certificate_revoked", 45: "certificate_expired", 46: "certificate_unknown",
	47: "illegal_parameter", 48: "unknown_ca", 49: "access_denied", 50: "decode_error", 51: "decrypt_error",
	60: "export_restriction", 70: "protocol_version", 71: "insufficient_security", 80: "internal_error",
	86: "inappropriate_fallback", 90: "user_canceled", 100: "no_renegotiation", 109: "missing_extension",
	110: "unsupported_extension", 111: "certificate_unobtainable", 112: "unrecognized_name",
	113: "bad_certificate_status_response", 115: "unknown_psk_identity", 116: "certificate_required",
	120: "no_application_protocol",
}

// aboutCertificate are those by which a client says that it does not trust the
// server.
var aboutCertificate = []byte{42, 43, 44, 45, 46, 48, 113}

// meanings are what the commoner alerts of a server mean, for whoever has never
// read an RFC.
var meanings = map[byte]string{
	40:  "they have no cipher or key exchange in common",
	49:  "it does not let this client in",
	70:  "it does not speak the version of TLS that was offered",
	71:  "it asks for stronger ciphers than were offered",
	80:  "something is broken inside it",
	112: "it does not serve that name",
	120: "it does not speak the protocol inside TLS that was asked for",
}

// A sign is what the first bytes of a side tell. The zero value tells nothing.
type sign int

const (
	signNothing  sign = iota
	signGoesOn        // the handshake goes on
	signAlert         // it refuses
	signStranger      // what it speaks is not TLS
)

// read tells what the first bytes after the hello mean, up to 8 of them. alert is
// the description of an alert, 0 where it cannot be seen.
func readSign(first []byte) (s sign, alert byte) {
	if len(first) == 0 {
		return signNothing, 0
	}
	switch first[0] {
	case recordHandshake, recordCipherChange, recordData:
		return signGoesOn, 0
	case recordAlert:
		if len(first) < 7 { // the alert itself is still on its way
			return signAlert, 0
		}
		if first[3] != 0 || first[4] != 2 { // encrypted: a record of TLS 1.3
			return signGoesOn, 0
		}
		// TLS 1.3 ignores the level (RFC 8446, 6): a warning that is no goodbye
		// is fatal all the same. unrecognized_name may be a mere warning before it
		// (RFC 6066, 3), and the handshake goes on.
		if first[5] != alertFatal && (first[6] == 112 || first[6] == 0 || first[6] == 90 || first[6] == 41) {
			return signGoesOn, 0
		}
		return signAlert, first[6]
	}
	return signStranger, 0
}

// alertInWords names an alert.
func alertInWords(alert byte) string {
	name := alertNames[alert]
	if alert == 0 {
		name = "an alert"
	} else if name == "" {
		name = fmt.Sprintf("alert %d", alert)
	}
	if m := meanings[alert]; m != "" {
		return name + ": " + m
	}
	return name
}

// handshakes remembers how it went lately, by name and port. Only those who count
// are in it: a stranger can make up a hello that no server likes, and an alert.
type handshakes struct {
	mu sync.Mutex
	of map[target]*handshake
}

type handshake struct {
	went     time.Time // a server last went on after a hello
	accepted time.Time // a charger last went on after the certificate
	doubters []share   // who refused the certificate since
	used     time.Time
}

const (
	// maxHandshakes bounds what is remembered.
	maxHandshakes = 256
	// many is how many callers must refuse a certificate for it to be the name's
	// trouble and not theirs.
	many = 3
	// wellFor is how long a name that went on with somebody is taken to be well, and
	// a certificate that somebody accepted. Of a trouble that is real the callers
	// are told at once, and the name after that.
	wellFor = 10 * time.Minute
)

func newHandshakes() *handshakes { return &handshakes{of: map[target]*handshake{}} }

func (h *handshakes) atLocked(t target, now time.Time) *handshake {
	x := h.of[t]
	if x == nil {
		if len(h.of) >= maxHandshakes {
			var oldest target
			var used time.Time
			for t, x := range h.of {
				if used.IsZero() || x.used.Before(used) {
					oldest, used = t, x.used
				}
			}
			delete(h.of, oldest)
		}
		x = &handshake{}
		h.of[t] = x
	}
	x.used = now
	return x
}

// wentOn notes that the server goes on after a hello.
func (h *handshakes) wentOn(t target, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.atLocked(t, now).went = now
}

// accepted notes that a charger goes on with the server's certificate.
func (h *handshakes) accepted(t target, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.atLocked(t, now)
	x.accepted, x.doubters = now, nil
}

// goesOn reports whether the server went on with somebody lately.
func (h *handshakes) goesOn(t target, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return lastly(h.atLocked(t, now).went, now)
}

// doubt notes that a caller refused the server's certificate. It returns how many
// callers that is, and whether somebody accepted it lately.
func (h *handshakes) doubt(t target, who share, now time.Time) (callers int, well bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.atLocked(t, now)
	x.doubters = join(x.doubters, who)
	return len(x.doubters), lastly(x.accepted, now)
}

func lastly(at, now time.Time) bool { return !at.IsZero() && now.Sub(at) < wellFor }

// join adds who, unless it is one of them or they are many already.
func join(list []share, who share) []share {
	if len(list) >= many || slices.Contains(list, who) {
		return list
	}
	return append(list, who)
}

// glanceOf returns what looks at the first bytes of a conversation that begins
// with hello, or nil where it is not TLS.
func (s *Server) glanceOf(c *conversation, hello []byte) func(carry.Leg, []byte) {
	if len(hello) == 0 || hello[0] != recordHandshake {
		return nil
	}
	return func(from carry.Leg, first []byte) { s.glance(c, from, first) }
}

// glance is called by the carrier for the first bytes of each side after the hello.
func (s *Server) glance(c *conversation, from carry.Leg, first []byte) {
	now := time.Now()
	what, alert := readSign(first)
	t := target{c.name, c.port}
	switch {
	case what == signNothing, what == signGoesOn && !s.witness(c):
	case from == carry.Far && what == signGoesOn:
		s.handshakes.wentOn(t, now)
		s.sayEnd(matter{t, matterTLS}, now)
	case from == carry.Far && what == signAlert:
		s.serverRefuses(c, "its server answered with the alert "+alertInWords(alert), now)
	case from == carry.Far:
		s.serverRefuses(c, "what answers there does not speak TLS", now)
	case what == signGoesOn:
		s.handshakes.accepted(t, now)
		s.sayEnd(matter{t, matterTrust}, now)
	case what == signAlert:
		s.chargerRefuses(c, alert, now)
	}
}

// unanswered accounts for a server that took the hello and ended the conversation
// without a byte: so does a firewall that does not like the name in it.
func (s *Server) unanswered(c *conversation, e carry.Ending) {
	if _, down := c.count(); down > 0 || c.pair.Glance == nil || e.Asked || e.Leg != carry.Far {
		return
	}
	switch {
	case e.Err == nil:
		s.serverRefuses(c, "its server hung up at the first message, without an answer", time.Now())
	case errors.Is(e.Err, unix.ECONNRESET), errors.Is(e.Err, unix.EPIPE):
		s.serverRefuses(c, "its server reset the connection at the first message, without an answer", time.Now())
	}
}

// witness reports whether what a caller meets tells of the name. Where there is an
// inventory only its chargers count: they have no reason to be refused, and neither
// does a server that likes a stranger's hello like theirs.
func (s *Server) witness(c *conversation) bool {
	return s.book.Inventory("") == 0 || s.named(c.share, c.caller)
}

// serverRefuses accounts for a hello that was refused. It is the name's trouble
// where the caller counts and the name goes on with nobody who does; else it is that
// caller's, who may have sent the hello to be refused.
func (s *Server) serverRefuses(c *conversation, why string, now time.Time) {
	s.counts.dialFailed(causeTLS)
	s.troubled(c, onPort(c.name, c.port, why), now)
	t := target{c.name, c.port}
	m := matter{t, matterTLS}
	if !s.witness(c) || s.handshakes.goesOn(t, now) || s.talksWith(c) {
		s.log.Say(event.EgressHelloRefused, event.IP(c.caller), event.F("NAME", c.name), event.F("PORT", c.port), event.F("ERROR", why))
		return
	}
	f := fault{cause: causeTLS, detail: why}
	if s.outages.failed(m, !s.exactly(t), f, now, now) {
		s.sayOutage(m, f)
	}
}

// chargerRefuses accounts for a charger that ends the conversation after the
// server's first words.
func (s *Server) chargerRefuses(c *conversation, alert byte, now time.Time) {
	why := alertInWords(alert)
	t := target{c.name, c.port}
	if !slices.Contains(aboutCertificate, alert) {
		s.troubled(c, onPort(c.name, c.port, "the charger broke off the handshake: "+why), now)
		s.log.Say(event.EgressHandshakeBroken, event.IP(c.caller), event.F("NAME", c.name), event.F("PORT", c.port), event.F("ALERT", why))
		return
	}
	s.troubled(c, onPort(c.name, c.port, "the charger does not accept its certificate: "+why), now)
	callers, well := 0, true
	if s.witness(c) {
		callers, well = s.handshakes.doubt(t, c.share, now)
	}
	m := matter{t, matterTrust}
	if well || !s.outages.isOpen(m) && callers < many {
		kind := event.EgressCertificateRefused
		if callers > 1 {
			kind = event.EgressCertificateRefusedToo
		}
		s.log.Say(kind, event.IP(c.caller), event.F("NAME", c.name), event.F("PORT", c.port), event.F("ALERT", why))
		return
	}
	if s.outages.failed(m, !s.exactly(t), fault{cause: causeTLS, detail: why}, now, now) {
		s.log.Say(event.EgressCertificateDoubted, event.F("NAME", c.name), event.F("PORT", c.port), event.F("ALERT", why), event.F("CHARGERS", callers),
			event.F("DO", trustAdvice))
	}
}

// troubled keeps what went wrong for the charger's page: it is entered when the
// conversation has ended, because the bytes of an alert count as an answer before.
func (s *Server) troubled(c *conversation, what string, now time.Time) {
	c.trouble = what
	s.book.Unreachable(c.caller, what, now)
}

// exactly reports whether a rule names the target itself and not only a pattern
// over it.
func (s *Server) exactly(t target) bool {
	verdict, rule := s.list.Decide(t.name, t.port)
	return verdict == policy.Allowed && policy.Normal(rule.Name) == policy.Normal(t.name)
}

// talksWith reports whether another caller who counts has a conversation open with
// the name of c in which the server has said more than an alert.
func (s *Server) talksWith(c *conversation) bool {
	const more = 64
	s.mu.Lock()
	defer s.mu.Unlock()
	for o := range s.open {
		if o.name == c.name && o.port == c.port && o.share != c.share {
			if _, down := o.count(); down > more && s.witness(o) {
				return true
			}
		}
	}
	return false
}

// onPort is what the charger's page says of a name that it could not reach.
func onPort(name string, port uint16, how string) string {
	return fmt.Sprintf("%s on port %d (%s)", name, port, how)
}
