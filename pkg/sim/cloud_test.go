package sim

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// openTestCloud makes a cloud with a gateway that is only a namespace.
func openTestCloud(t *testing.T) (*Cloud, *Space, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	gw, err := newSpace("gw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(gw.close)
	cloud, err := openCloud(ctx, gw)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.close)
	if err := gw.address(uplink, UplinkAddr+"/24"); err != nil {
		t.Fatal(err)
	}
	if err := gw.defaultRoute(uplink, RouterAddr); err != nil {
		t.Fatal(err)
	}
	return cloud, gw, ctx
}

func TestCloud(t *testing.T) {
	cloud, gw, ctx := openTestCloud(t)

	t.Run("names stand behind CNAMEs", func(t *testing.T) {
		m := askFrom(t, gw, "udp", ResolverAddr, Hub)
		if len(m.Answer) != 2 || m.Answer[0].Header().Rrtype != dns.TypeCNAME {
			t.Errorf("%s is answered with %v, want a CNAME and an address", Hub, m.Answer)
		}
	})
	t.Run("a large answer needs TCP", func(t *testing.T) {
		if m := askFrom(t, gw, "udp", ResolverAddr, Big); !m.Truncated {
			t.Errorf("over UDP the answer came whole: %d records", len(m.Answer))
		}
		if m := askFrom(t, gw, "tcp", ResolverAddr, Big); m.Truncated || len(m.Answer) != 120 {
			t.Errorf("over TCP %d records came, want 120", len(m.Answer))
		}
	})
	t.Run("a public resolver lies", func(t *testing.T) {
		m := askFrom(t, gw, "udp", publicResolvers[0], API)
		if len(m.Answer) != 1 || !strings.HasSuffix(m.Answer[0].String(), BystanderIP) {
			t.Errorf("answered %v, want the bystander", m.Answer)
		}
	})
	t.Run("servers tell who they are, with a chain that verifies", func(t *testing.T) {
		for host, addr := range map[string]string{API: APIAddr, Devices: DevicesAddr, OldAPI: OldAPIAddr, Elsewhere: ElsewhereIP} {
			raw, err := gw.Dial("tcp4", addr+":443")
			if err != nil {
				t.Fatal(err)
			}
			conn := tls.Client(raw, &tls.Config{ServerName: host, RootCAs: cloud.Authority.Pool()})
			client := http.Client{Transport: &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
			r, err := client.Get("https://" + host)
			if err != nil {
				t.Fatalf("%s: %v", host, err)
			}
			r.Body.Close()
			client.CloseIdleConnections()
			if got := r.Header.Get(ServedBy); got != host {
				t.Errorf("%s says that it is %q", host, got)
			}
		}
	})
	t.Run("the witness sees what should not come", func(t *testing.T) {
		// The gateway itself is not held back here: it has no rules.
		cloud.Witness.Forget()
		if c, err := gw.Dial("tcp4", APIAddr+":443"); err == nil {
			c.Close()
		}
		if c, err := gw.Dial("udp4", ElsewhereIP+":443"); err == nil {
			c.Write([]byte("x"))
			c.Close()
		}
		if err := cloud.Witness.WaitFor(ctx); err != nil {
			t.Fatal(err)
		}
		want := []string{"udp " + ElsewhereIP + ":443 from " + UplinkAddr + " (1 times)"}
		if got := cloud.Witness.Sightings(); !slices.Equal(got, want) {
			t.Errorf("seen %q, want %q", got, want)
		}
	})
}

// askFrom asks a resolver from a namespace.
func askFrom(t *testing.T, s *Space, network, server, name string) *dns.Msg {
	t.Helper()
	raw, err := s.Dial(network, server+":53")
	if err != nil {
		t.Fatal(err)
	}
	conn := &dns.Conn{Conn: raw}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	if err := conn.WriteMsg(q); err != nil {
		t.Fatal(err)
	}
	m, err := conn.ReadMsg()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestInside(t *testing.T) {
	if os.Getenv(stageKey) != "" {
		t.Error("the stage is still told to children")
	}
	if name, err := os.Hostname(); err != nil || name != "garage" {
		t.Errorf("the host is called %q, %v, want garage: these are no namespaces of our own", name, err)
	}
	if os.TempDir() != Dir {
		t.Errorf("temporary files go to %s, want %s", os.TempDir(), Dir)
	}
}
