package sim

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// The addresses of the simulated Internet. All are from the ranges kept for
// documentation (RFC 5737), but for the two public resolvers that chargers fall
// back to (Z-12).
const (
	RouterAddr        = "203.0.113.1"    // the cloud's end of the uplink
	UplinkAddr        = "203.0.113.2"    // the gateway's
	OtherUplinkAddr   = "203.0.113.3"    // one that it can be given instead
	ResolverAddr      = "192.0.2.53"     // the resolver that the gateway asks
	OtherResolverAddr = "192.0.2.54"     // another one that it may ask
	TimeAddr          = "192.0.2.123"    // the time server that the gateway's chronyd asks
	HubAddr           = "198.51.100.10"  // zapcloud.azure-devices.net
	OtherHubAddr      = "198.51.100.20"  // where the hub can move to
	OldAPIAddr        = "198.51.100.11"  // zapcloud-api.azurewebsites.net
	DevicesAddr       = "198.51.100.12"  // devices.zaptec.com
	APIAddr           = "198.51.100.13"  // api.zaptec.com
	ElsewhereIP       = "198.51.100.14"  // example.com: works, and is none of a charger's business
	BystanderIP       = "203.0.113.66"   // somebody else on the uplink
	OCPPAddr          = "198.51.100.16"  // ocpp.example.net
	BigAddr           = "198.51.100.100" // the first of large.example.net
)

// The names of the simulated Internet that have a meaning of their own.
const (
	Hub       = "zapcloud.azure-devices.net"
	OldAPI    = "zapcloud-api.azurewebsites.net"
	Devices   = "devices.zaptec.com"
	API       = "api.zaptec.com"
	Elsewhere = "example.com"
	// Plain is where Elsewhere is, for conversations without TLS (Options.Plain).
	Plain = "plain.example.net"
	// ResolverName is in the certificate that the resolvers show over TLS.
	ResolverName = "dns.example.net"
	// Big has so many addresses that the answer needs TCP. The garage's
	// configuration allows it.
	Big = "large.example.net"
	// OCPP is an operator's own server: HTTP on OCPPPort, where Options.Plain
	// allows it.
	OCPP = "ocpp.example.net"
)

// OCPPPort is where OCPP speaks HTTP without TLS, and OCPPTLSPort is for a server
// with TLS that somebody starts.
const (
	OCPPPort    = 9000
	OCPPTLSPort = 9443
)

// Endpoints are the four hosts that a charger needs, each with its port (Z-8,
// Z-9).
func Endpoints() map[string]uint16 {
	return map[string]uint16{Hub: 8883, OldAPI: 443, Devices: 443, API: 443}
}

// A Cloud is the Internet of the garage: names, time, the four hosts, and a
// witness of everything that reaches it and should not.
type Cloud struct {
	Space     *Space
	Authority *Authority
	Names     *NameServer
	Web       *Web
	Witness   *Witness // nil in a cloud of CloudIn
	Broker    *Program // mosquitto, as the hub
	OtherHub  *Program // mosquitto at the hub's other address; nil before StartOtherHub
	Clock     *Program // chronyd; nil while stopped

	beyond *Space // behind a router; nil before Beyond
	liar   *liar  // in chronyd's place; nil: none
}

// uplink names both ends of the wire between cloud and gateway.
const uplink = "eth0"

// wireUplink makes the namespace the other end of the gateway's uplink.
func (s *Space) wireUplink(gw *Space) error {
	return s.wire(uplink, gw, uplink, cloudMAC, [6]byte{0xdc, 0xa6, 0x32, 0, 0, 1})
}

// openCloud makes the cloud's side of the uplink and everything behind it.
func openCloud(ctx context.Context, gw *Space) (*Cloud, error) {
	space, err := newSpace("cloud")
	if err != nil {
		return nil, err
	}
	c := &Cloud{Space: space}
	if err := c.build(ctx, gw); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *Cloud) build(ctx context.Context, gw *Space) error {
	if err := c.Space.wireUplink(gw); err != nil {
		return err
	}
	var err error
	if c.Witness, err = openWitness(c.Space, uplink); err != nil {
		return err
	}
	if err := c.furnish(ctx); err != nil {
		return err
	}
	return c.StartClock(ctx)
}

// furnish gives the wire its addresses and starts whoever is behind them, but for
// the time.
func (c *Cloud) furnish(ctx context.Context) error {
	addrs := []string{RouterAddr + "/24", BystanderIP + "/24"}
	for _, a := range append([]string{ResolverAddr, OtherResolverAddr, TimeAddr, HubAddr, OtherHubAddr, OldAPIAddr, DevicesAddr, APIAddr, OCPPAddr, ElsewhereIP}, publicResolvers...) {
		addrs = append(addrs, a+"/32")
	}
	if err := c.Space.address(uplink, addrs...); err != nil {
		return err
	}
	var err error
	if c.Authority, err = newAuthority(Dir); err != nil {
		return err
	}
	if c.Names, err = openNames(c.Space, c.Authority); err != nil {
		return err
	}
	if c.Web, err = openWeb(c.Space, c.Authority); err != nil {
		return err
	}
	c.Broker, err = c.startBroker(ctx, "mosquitto", HubAddr)
	return err
}

// startBroker runs mosquitto as the hub: MQTT over TLS on 8883 (Z-8) of an
// address.
func (c *Cloud) startBroker(ctx context.Context, name, addr string) (*Program, error) {
	cert, err := c.Authority.certify("*.azure-devices.net", Hub)
	if err != nil {
		return nil, err
	}
	chain, key, file := filepath.Join(Dir, name+".pem"), filepath.Join(Dir, name+".key"), filepath.Join(Dir, name+".conf")
	if err := writePair(cert, chain, key); err != nil {
		return nil, err
	}
	err = writeFile(file, fmt.Sprintf(`user root
persistence false
allow_anonymous true
log_dest stderr
log_type error
log_type warning
log_type notice
set_tcp_nodelay true
listener 8883 %s
certfile %s
keyfile %s
tls_version tlsv1.2
`, addr, chain, key))
	if err != nil {
		return nil, err
	}
	cmd, err := command("mosquitto", "-c", file)
	if err != nil {
		return nil, err
	}
	p, err := c.Space.launch(name, cmd, disguise{})
	if err != nil {
		return nil, err
	}
	return p, waitFor(ctx, "the broker to listen", p, func() bool { return c.Space.listens(netip.MustParseAddrPort(addr + ":8883")) })
}

// StopHub takes the hub away: its port is closed, as when the service behind the
// name is down.
func (c *Cloud) StopHub() { c.Broker.Stop() }

// StartHub brings the hub back.
func (c *Cloud) StartHub(ctx context.Context) (err error) {
	c.Broker, err = c.startBroker(ctx, "mosquitto", HubAddr)
	return err
}

// StartOtherHub starts a second hub, at OtherHubAddr. Names.Set moves its name
// there. HubIs tells the two apart.
func (c *Cloud) StartOtherHub(ctx context.Context) (err error) {
	c.OtherHub, err = c.startBroker(ctx, "other-mosquitto", OtherHubAddr)
	return err
}

// HubIs returns the address of the hub that showed a certificate; "" when it was
// none of them.
func (c *Cloud) HubIs(cert *x509.Certificate) string {
	for name, addr := range map[string]string{"mosquitto": HubAddr, "other-mosquitto": OtherHubAddr} {
		text, err := os.ReadFile(filepath.Join(Dir, name+".pem"))
		if err == nil && bytes.HasPrefix(text, pemOf("CERTIFICATE", cert.Raw)) {
			return addr
		}
	}
	return ""
}

// StartClock starts the time that the gateway follows. It does nothing when it
// runs already.
func (c *Cloud) StartClock(ctx context.Context) error {
	if c.Clock != nil {
		return nil
	}
	file := filepath.Join(Dir, "upstream-chrony.conf")
	err := writeFile(file, fmt.Sprintf(`local stratum 2
allow all
cmdport 0
bindcmdaddress /
bindaddress %s
pidfile %s/upstream-chrony.pid
`, TimeAddr, Dir))
	if err != nil {
		return err
	}
	c.Clock, err = c.Space.launchChronyd("upstream-chrony", file)
	return err
}

// StopClock takes the time away that the gateway follows.
func (c *Cloud) StopClock() {
	c.Clock.Stop()
	c.Clock = nil
}

// launchChronyd runs chronyd so that it never touches this machine's clock (-x)
// and stays root, since an ordinary user's namespace has nobody else.
func (s *Space) launchChronyd(name, file string) (*Program, error) {
	cmd, err := command("chronyd", "-d", "-x", "-u", "root", "-f", file)
	if err != nil {
		return nil, err
	}
	return s.launch(name, cmd, disguise{})
}

func (c *Cloud) close() {
	c.Clock.Stop()
	c.StopLie()
	c.Broker.Stop()
	c.OtherHub.Stop()
	if c.Web != nil {
		c.Web.close()
	}
	if c.Names != nil {
		c.Names.close()
	}
	if c.Witness != nil {
		c.Witness.close()
	}
	if c.beyond != nil {
		c.beyond.close()
	}
	c.Space.close()
}
