package resolver

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"chargegate/pkg/event"
)

// maxDrift is how far a clock that was set once may be off by itself: years of the
// worst oscillator. What is more, somebody has set.
const maxDrift = 24 * time.Hour

// certificates decides what the certificate of a server must be like. While this
// box does not know the time, its dates prove nothing: refusing them would keep
// the names away by which the time is found (F-12). Everything else is checked.
//
// A box that has known the time since the daemon's start knows the day from then
// on, whatever becomes of its synchronisation: otherwise whoever keeps NTP away
// for long enough could use a certificate that ended years ago. Only a clock that
// was moved by more than maxDrift since then is not believed until it is
// synchronised again.
type certificates struct {
	synchronised func() bool
	log          *event.Log
	roots        *x509.CertPool // nil: the system's
	// sessions are those that began with a full check. Others are not resumed.
	sessions tls.ClientSessionCache
	said     atomic.Bool // in this time without a clock
	set      atomic.Pointer[moment]
}

// A moment is the same one on two clocks.
type moment struct {
	wall, steady time.Time // as it can be set; as it cannot
}

// momentOf takes a reading of time.Now apart.
func momentOf(now time.Time) *moment { return &moment{wall: now.Round(0), steady: now} }

// isSound reports whether the clock that can be set went on as the steady one did
// since a moment.
func (m *moment) isSound(now time.Time) bool {
	drift := now.Round(0).Sub(m.wall) - now.Sub(m.steady)
	return drift.Abs() < maxDrift
}

func newCertificates(synchronised func() bool, log *event.Log) *certificates {
	if synchronised == nil {
		synchronised = func() bool { return true }
	}
	return &certificates{synchronised: synchronised, log: log, sessions: tls.NewLRUClientSessionCache(8)}
}

// config returns how to talk with a server now. undated means that the dates are
// not checked: such a conversation must end when the clock is set.
func (c *certificates) config(t target) (conf *tls.Config, undated bool) {
	conf = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.tlsName, RootCAs: c.roots}
	if c.isSet() {
		conf.ClientSessionCache = c.sessions
		return conf, false
	}
	conf.InsecureSkipVerify = true // the dates cannot be left out otherwise; the rest follows
	conf.VerifyConnection = func(s tls.ConnectionState) error {
		if err := verifyUndated(s.PeerCertificates, t.tlsName, c.roots); err != nil {
			return err
		}
		if !c.said.Swap(true) {
			c.log.Say(event.ResolverDatesUnchecked, event.F("UPSTREAM", t))
		}
		return nil
	}
	return conf, true
}

// outdated reports whether a conversation has to end because the clock has been
// set since it began.
func (c *certificates) outdated(undated bool) bool { return undated && c.isSet() }

// isSet reports whether this box knows what day it is, and ends the time without a
// clock.
func (c *certificates) isSet() bool {
	now := time.Now()
	if c.synchronised() {
		c.set.Store(momentOf(now))
	} else if was := c.set.Load(); was == nil || !was.isSound(now) {
		return false
	}
	if c.said.Load() {
		c.said.Store(false)
	}
	return true
}

// verifyUndated checks the name and the chain of a certificate as they were at
// some moment when all of the chain was valid. If there is such a moment, then
// one of the chain begins or ends at one.
func verifyUndated(chain []*x509.Certificate, name string, roots *x509.CertPool) error {
	if len(chain) == 0 {
		return errors.New("the server shows no certificate")
	}
	const maxChain = 8 // far more than anybody sends, and each is tried twice
	chain = chain[:min(len(chain), maxChain)]
	opts := x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	var first error
	for _, c := range chain {
		for _, at := range []time.Time{c.NotBefore, c.NotAfter} {
			opts.CurrentTime = at
			_, err := chain[0].Verify(opts)
			if err == nil {
				return nil
			}
			// A fault that is not the date's tells more than one that is.
			if first == nil || isDate(first) && !isDate(err) {
				first = err
			}
		}
	}
	return fmt.Errorf("its certificate is refused: %w", first)
}

func isDate(err error) bool {
	var bad x509.CertificateInvalidError
	return errors.As(err, &bad) && bad.Reason == x509.Expired
}

// A badCertificate is a certificate that is refused, in words that somebody can do
// something with; what the library says of it is beneath.
type badCertificate struct {
	text string
	do   string
	err  error
}

func (b *badCertificate) Error() string { return b.text }
func (b *badCertificate) Unwrap() error { return b.err }

// inWords says of a certificate that is refused why.
func inWords(err error, now time.Time) error {
	var name x509.HostnameError
	if errors.As(err, &name) && name.Certificate != nil {
		return &badCertificate{"its certificate is for " + owners(name.Certificate), "Correct the name after # in [dns] upstreams, then: " + takeOver, err}
	}
	var stranger x509.UnknownAuthorityError
	if errors.As(err, &stranger) {
		return &badCertificate{"its certificate is signed by nobody whom this box knows",
			"Is the package ca-certificates installed? If it is, somebody sits between, or it is a server of the site's own: write " + anotherServer, err}
	}
	var bad x509.CertificateInvalidError
	if !errors.As(err, &bad) || bad.Reason != x509.Expired || bad.Cert == nil {
		return err
	}
	const day = "2006-01-02"
	do := "Tell its operator, or write " + anotherServer
	word := "ended on " + bad.Cert.NotAfter.UTC().Format(day)
	if now.Before(bad.Cert.NotBefore) {
		word = "is valid only from " + bad.Cert.NotBefore.UTC().Format(day)
	}
	return &badCertificate{fmt.Sprintf("its certificate %s, and today is %s", word, now.UTC().Format(day)), do, err}
}

// owners are the names in a certificate, as few as say enough.
func owners(c *x509.Certificate) string {
	const most = 3
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	switch {
	case len(names) == 0:
		return "no name at all"
	case len(names) > most:
		return strings.Join(names[:most], ", ") + " and others"
	}
	return strings.Join(names, ", ")
}
