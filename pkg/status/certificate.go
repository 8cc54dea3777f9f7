package status

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"time"

	"chargegate/pkg/policy"
)

// ownAuthority reports whether a name's certificate comes from Zaptec's own root,
// which chargers carry and no system does (Z-9).
func ownAuthority(name string) bool { return policy.Normal(name) == "devices.zaptec.com" }

const inspection = "Somebody between here and the cloud opens TLS (a firewall with inspection, a captive portal): exempt this box, for chargers refuse that too. If there is nobody, is the package ca-certificates installed and fresh?"

// checkTLS shakes hands and judges the certificate as a charger would (Z-8).
func (s *Server) checkTLS(ctx context.Context, conn net.Conn, name, answers string, sure bool) finding {
	began := time.Now()
	chain, err := shake(ctx, conn, name)
	if err != nil {
		return fail("Something between here and the cloud cuts the conversation: look for inspection or filtering of TLS in the site's firewall.",
			"%s; but TLS fails: %s", answers, inWords(err, time.Since(began)))
	}
	err = verify(chain, name)
	var unknown x509.UnknownAuthorityError
	switch {
	case err == nil:
		return pass("%s; its certificate verifies, until %s", answers, chain[0].NotAfter.Format(time.DateOnly))
	case ownAuthority(name) && errors.As(err, &unknown): // name and dates fit
		if other := s.alsoIssuedFor(ctx, chain[0]); other != "" {
			return fail(inspection, "%s; its certificate is from the authority (%s) that also answers for %s: somebody opens TLS on the way", answers, issuer(chain[0]), other)
		}
		return pass("%s with its own authority's certificate (issuer %s), as Zaptec's chargers expect; only they know the right authority", answers, issuer(chain[0]))
	case !sure:
		return warn("Run it again once the clock is right: without it nobody can judge a certificate (F-12).",
			"%s; its certificate does not verify, but this box does not know the time: %s", answers, plainText(err.Error()))
	}
	return fail(inspection, "%s; its certificate (issuer %s) does not verify: %s", answers, issuer(chain[0]), plainText(err.Error()))
}

// shake shakes hands for a name and returns the certificates shown, the
// server's own first. They are not judged here; nothing is sent afterwards.
func shake(ctx context.Context, conn net.Conn, name string) ([]*x509.Certificate, error) {
	c := tls.Client(conn, &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true})
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates, nil // never empty: no suite of ours is anonymous
}

// verify judges a chain by the system's roots. Dates and name come before the
// authority: an unknown authority means that these fit.
func verify(chain []*x509.Certificate, name string) error {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: name, Intermediates: between})
	return err
}

// alsoIssuedFor returns another allowed name whose certificate here is from the
// same authority as own, "" for none: an inspecting firewall answers for every name, while
// Zaptec's own authority answers for one.
func (s *Server) alsoIssuedFor(ctx context.Context, own *x509.Certificate) string {
	for _, r := range s.src.List.Rules() {
		if r.Plain || strings.HasPrefix(r.Name, "*.") || ownAuthority(r.Name) {
			continue
		}
		addrs, err := s.src.LookupNetIP(ctx, "ip4", r.Name)
		if err != nil {
			continue
		}
		addrs, why, _ := s.dialable(r.Name, r.Ports[0], addrs)
		if why != "" {
			continue
		}
		conn, why := s.reach(ctx, addrs, r.Ports[0])
		if why != "" {
			continue
		}
		chain, err := shake(ctx, conn, r.Name)
		conn.Close()
		if err == nil && bytes.Equal(chain[0].RawIssuer, own.RawIssuer) && bytes.Equal(chain[0].AuthorityKeyId, own.AuthorityKeyId) {
			return r.Name
		}
	}
	return ""
}

// issuer names who has signed a certificate.
func issuer(c *x509.Certificate) string {
	if who := c.Issuer.String(); who != "" {
		return who
	}
	return "without a name"
}
