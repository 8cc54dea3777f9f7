package sim

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	ntp "github.com/facebook/time/ntp/protocol"
	"github.com/miekg/dns"
)

// TestSpoiledNames asks resolvers whose names change and that misbehave.
func TestSpoiledNames(t *testing.T) {
	cloud, gw, ctx := openTestCloud(t)
	names := cloud.Names

	t.Run("a name moves, and goes", func(t *testing.T) {
		names.Set(Hub, 7, OtherHubAddr)
		m := askFrom(t, gw, "udp", OtherResolverAddr, Hub)
		if len(m.Answer) != 1 || m.Answer[0].String() != Hub+".\t7\tIN\tA\t"+OtherHubAddr {
			t.Errorf("answered %v, want the other hub for 7 s", m.Answer)
		}
		names.Set(Hub, 0)
		if m := askFrom(t, gw, "udp", ResolverAddr, Hub); m.Rcode != dns.RcodeNameError {
			t.Errorf("answered %v, want that there is no such name", m)
		}
	})
	t.Run("the other hub is told by its certificate", func(t *testing.T) {
		if err := cloud.StartOtherHub(ctx); err != nil {
			t.Fatal(err)
		}
		for _, addr := range []string{HubAddr, OtherHubAddr} {
			cert := shown(t, gw, addr+":8883", &tls.Config{ServerName: Hub, RootCAs: cloud.Authority.Pool()})
			if got := cloud.HubIs(cert); got != addr {
				t.Errorf("the hub at %s is taken for %q", addr, got)
			}
		}
	})
	t.Run("over TLS", func(t *testing.T) {
		good := &tls.Config{ServerName: ResolverName, RootCAs: cloud.Authority.Pool()}
		shown(t, gw, ResolverAddr+":853", good)
		if err := names.Certify("elsewhere.example.net", yesterday(), time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		raw, err := gw.Dial("tcp4", ResolverAddr+":853")
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		var bad x509.CertificateInvalidError
		if err := tls.Client(raw, good).HandshakeContext(ctx); !errors.As(err, &bad) || bad.Reason != x509.Expired {
			t.Errorf("an expired certificate gives %v", err)
		}
	})
	for _, f := range []struct {
		what  string
		fault Fault
		code  int // of the answer; -1: none
	}{
		{"silent", Silent, -1}, {"failing", Failing, dns.RcodeServerFailure}, {"lame", Lame, dns.RcodeRefused},
		{"cut short", CutShort, dns.RcodeSuccess}, {"misdirected", Misdirected, dns.RcodeSuccess},
	} {
		t.Run(f.what, func(t *testing.T) {
			if err := names.Suffer(ResolverAddr, f.fault); err != nil {
				t.Fatal(err)
			}
			m, err := ask(gw, "udp", ResolverAddr, API)
			if (err == nil) != (f.code >= 0) || err == nil && m.Rcode != f.code {
				t.Errorf("answered %v, %v", m, err)
			}
			if f.fault == Misdirected && m.Question[0].Name == dns.Fqdn(API) {
				t.Error("the question is the one that was asked")
			}
			if f.fault == CutShort {
				if !m.Truncated || len(m.Answer) > 0 {
					t.Errorf("answered %v over UDP, want nothing, truncated", m)
				}
				if _, err := ask(gw, "tcp", ResolverAddr, API); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("over TCP: %v, want a refusal", err)
				}
			}
			if err := names.Suffer(ResolverAddr, Well); err != nil {
				t.Fatal(err)
			}
			if m := askFrom(t, gw, "tcp", ResolverAddr, API); len(m.Answer) != 2 {
				t.Errorf("well again, it answers %v", m)
			}
		})
	}
	if got := names.AskedAt(OtherResolverAddr); got["udp"] != 1 || got["tcp"] != 0 {
		t.Errorf("the other resolver counts %v, want one question over UDP", got)
	}
}

// ask is askFrom where no answer is none of the test's business.
func ask(s *Space, network, server, name string) (*dns.Msg, error) {
	raw, err := s.Dial(network, server+":53")
	if err != nil {
		return nil, err
	}
	conn := &dns.Conn{Conn: raw}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	if err := conn.WriteMsg(new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)); err != nil {
		return nil, err
	}
	return conn.ReadMsg()
}

// shown is the certificate that a server shows, once it is found good.
func shown(t *testing.T, s *Space, addr string, c *tls.Config) *x509.Certificate {
	t.Helper()
	raw, err := s.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	conn := tls.Client(raw, c)
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return conn.ConnectionState().PeerCertificates[0]
}

// TestLie asks a time server that lies.
func TestLie(t *testing.T) {
	cloud, gw, _ := openTestCloud(t)
	if err := cloud.Lie(Lie{Leap: 3, Stratum: 16, RootDelay: 2 * time.Second, RootDispersion: 1500 * time.Millisecond, Off: time.Hour}); err != nil {
		t.Fatal(err)
	}
	c, err := gw.Dial("udp4", TimeAddr+":123")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request := make([]byte, 48)
	request[0] = 4<<3 | 3
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, err := c.Read(request)
	if err != nil {
		t.Fatal(err)
	}
	var p ntp.Packet
	if err := p.UnmarshalBinary(request[:n]); err != nil {
		t.Fatal(err)
	}
	if p.Settings != 3<<6|4<<3|4 || p.Stratum != 16 || p.RootDelay != 2<<16 || p.RootDispersion != 3<<15 {
		t.Errorf("the server says %+v", p)
	}
	if off := time.Until(ntp.Unix(p.TxTimeSec, p.TxTimeFrac)); off < 59*time.Minute || off > 61*time.Minute {
		t.Errorf("it is ahead by %s, want an hour", off)
	}
	cloud.StopLie()
	c.Write(request)
	c.SetReadDeadline(time.Now().Add(time.Second))
	if _, err := c.Read(request); err == nil || os.IsTimeout(err) {
		t.Errorf("after it has gone: %v, want a refusal", err)
	}
}
