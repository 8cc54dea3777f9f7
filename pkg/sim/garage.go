// Package sim is a whole parking garage in network namespaces: simulated
// chargers, the real gateway and a small Internet, on one machine, without root
// where user namespaces are allowed. The demonstration, the tests and the
// benchmarks are its three users.
//
//	cloud                          gw                              site
//	203.0.113.1 ── eth0 ─────── eth0 203.0.113.2
//	192.0.2.53, 54 resolvers       chargegated (the real one)
//	192.0.2.123    chronyd         chronyd
//	198.51.100.10  mosquitto       nftables, as rendered
//	198.51.100.11… four hosts      garage-p1 10.83.0.1 ──────── garage-p1 ─┬─ P1-01
//	a witness of whatever                                                  ├─ P1-02 …
//	should not arrive              garage-p2 10.83.16.1 ─────── garage-p2 ─┴─ P2-01 …
//
// Each wire is a veth pair. Each charger is a macvlan in private mode on the
// wire of its network, which keeps devices apart as an access point with client
// isolation does, with its own hardware address, its own address and its own
// route. A guest (see Host) is such a device in a namespace of its own, for
// real programs.
//
// The package starts the programs and plays the chargers, systemd's part and
// the cloud's part. What is right and wrong it leaves to whoever runs it.
package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// A Garage is what Start has built.
type Garage struct {
	Options Options
	Cloud   *Cloud
	Gateway *Gateway
	// Chargers are the simulated ones, all off, in the order of the options.
	Chargers []*Charger

	site  *Space
	hosts map[string]*Host
}

// Start builds a garage whose gateway is ready and knows the time, and whose
// chargers are off. It must be called inside Enter. Only one garage can be open
// at a time.
func Start(ctx context.Context, o Options) (*Garage, error) {
	g := &Garage{Options: o, hosts: map[string]*Host{}}
	if err := g.build(ctx); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

func (g *Garage) build(ctx context.Context) (err error) {
	o := g.Options
	if g.site, err = home("site"); err != nil {
		return err
	}
	if g.Gateway, err = openGateway(o.Bin); err != nil {
		return err
	}
	for _, name := range []string{"all/rp_filter", "default/rp_filter"} {
		if err := g.site.sysctl("net/ipv4/conf/"+name, "0"); err != nil {
			return err
		}
	}
	o.say("the cloud: names behind CNAMEs, chronyd, four hosts with TLS, mosquitto on 8883")
	if g.Cloud, err = openCloud(ctx, g.Gateway.Space); err != nil {
		return err
	}
	if err := g.wireSite(); err != nil {
		return err
	}
	o.say("the gateway: addresses, rendered nftables, chronyd")
	if err := g.Gateway.configure(o); err != nil {
		return err
	}
	if err := g.Gateway.prepare(ctx); err != nil {
		return err
	}
	if err := g.Gateway.StartClock(ctx); err != nil {
		return err
	}
	took, err := g.Gateway.StartDaemon(ctx)
	if err != nil {
		return err
	}
	o.say("the gateway: chargegated told systemd READY after %s", took.Round(time.Millisecond))
	if err := g.makeChargers(); err != nil {
		return err
	}
	if err := g.Gateway.WaitClock(ctx, true); err != nil {
		return err
	}
	o.say("the gateway: the daemon knows the time")
	return nil
}

// wireSite connects each network of the site with the gateway, and tells the
// kernel that the many devices of one namespace are many: none answers for
// another, and none minds where a packet comes from.
func (g *Garage) wireSite() error {
	for name, value := range map[string]string{
		"net/ipv4/conf/all/arp_ignore": "1", "net/ipv4/conf/all/arp_announce": "2",
		"net/ipv6/conf/default/disable_ipv6": "1", "net/ipv4/ip_forward": "0",
	} {
		if err := g.site.sysctl(name, value); err != nil {
			return err
		}
	}
	if err := g.site.up("lo"); err != nil {
		return err
	}
	for i, network := range g.Options.Networks {
		name := ifaceOf(network.Name)
		siteEnd, gwEnd := [6]byte{2, 0, 0, 1, 0, byte(i)}, gatewayMAC(i)
		if err := g.site.wire(name, g.Gateway.Space, name, siteEnd, gwEnd); err != nil {
			return err
		}
	}
	return nil
}

// manyChargers is how many come near to filling the kernel's table of
// neighbours, which holds 1024 entries for all namespaces of the machine
// together. From there on gateway and chargers are introduced to each other for
// good: such entries do not count.
const manyChargers = 300

// introducer introduces a charger and the gateway of its network.
func (g *Garage) introducer(c *Charger) (func(Binding, net.HardwareAddr) error, error) {
	link, err := g.Gateway.Space.nl.LinkByName(ifaceOf(c.Network))
	if err != nil {
		return nil, fmt.Errorf("finding the gateway's end of %s: %w", c.Network, err)
	}
	return func(b Binding, gateway net.HardwareAddr) error {
		return errors.Join(
			g.site.know(c.device.index, b.Router, gateway),
			g.Gateway.Space.know(link.Attrs().Index, b.Addr.Addr(), c.MAC[:]))
	}, nil
}

func (g *Garage) makeChargers() error {
	total := 0
	for _, network := range g.Options.Networks {
		total += network.Chargers
	}
	for n, network := range g.Options.Networks {
		for i := range network.Chargers {
			c := &Charger{
				Name: chargerName(network.Name, i), Network: network.Name, Serial: serial(n, i), MAC: chargerMAC(n, i),
				habits: g.Options.Habits, roots: g.Cloud.Authority.Pool(),
			}
			var err error
			if c.device, err = newDevice(fmt.Sprintf("c%d-%d", n+1, i+1), ifaceOf(network.Name), c.MAC); err != nil {
				return err
			}
			if total > manyChargers {
				if c.introduce, err = g.introducer(c); err != nil {
					return err
				}
			}
			c.view = View{Name: c.Name, Network: c.Network, MAC: hw(c.MAC), Stage: Off}
			g.Chargers = append(g.Chargers, c)
		}
	}
	if total > 0 {
		g.Options.say("the site: %d chargers, all switched off", total)
	}
	return nil
}

// Guest makes a simulated charger of a guest of the inventory, for whoever
// wants to move it by hand. It is off.
func (g *Garage) Guest(name string) (*Charger, error) {
	i := slices.IndexFunc(g.Options.Guests, func(guest Guest) bool { return guest.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("%s is no guest of this garage", name)
	}
	guest := g.Options.Guests[i]
	c := &Charger{
		Name: name, Network: guest.Network, Serial: fmt.Sprintf("ZPR%06d", i), MAC: guestMAC(i),
		habits: g.Options.Habits, roots: g.Cloud.Authority.Pool(),
	}
	c.view = View{Name: name, Network: guest.Network, MAC: hw(c.MAC), Stage: Off}
	var err error
	c.device, err = newDevice(fmt.Sprintf("guest%d", i), ifaceOf(guest.Network), c.MAC)
	return c, err
}

// PowerOn gives the power back: every charger boots at once (F-1).
func (g *Garage) PowerOn() {
	for _, c := range g.Chargers {
		c.PowerOn()
	}
}

// PowerOff cuts the power of every charger.
func (g *Garage) PowerOff() {
	var wg sync.WaitGroup
	for _, c := range g.Chargers {
		wg.Go(c.PowerOff)
	}
	wg.Wait()
}

// Configure changes the options of the daemon and writes its configuration anew,
// for its next start.
func (g *Garage) Configure(change func(*Options)) error {
	change(&g.Options)
	return g.Gateway.configure(g.Options)
}

// Views are what the chargers know of themselves.
func (g *Garage) Views() []View {
	all := make([]View, len(g.Chargers))
	for i, c := range g.Chargers {
		all[i] = c.View()
	}
	return all
}

// Online reports whether every charger is well in its own view: it talks with
// the hub and api.zaptec.com has answered it.
func (g *Garage) Online() bool {
	for _, v := range g.Views() {
		if !v.Well() {
			return false
		}
	}
	return true
}

// Well reports whether the charger talks with the hub and has been answered by
// api.zaptec.com.
func (v View) Well() bool { return v.Stage == OK && v.Served > 0 }

// told is how many chargers that are not online an error names.
const told = 5

// WaitOnline waits until every charger is well. The error names the first who
// are not.
func (g *Garage) WaitOnline(ctx context.Context) error {
	err := waitFor(ctx, "the chargers to be online", nil, g.Online)
	if err == nil {
		return nil
	}
	all, rest := []error{err}, 0
	for _, v := range g.Views() {
		switch {
		case v.Well():
		case len(all) > told:
			rest++
		default:
			all = append(all, fmt.Errorf("%s stands at %s: %s", v.Name, v.Stage, v.Trouble))
		}
	}
	if rest > 0 {
		all = append(all, fmt.Errorf("and %d more", rest))
	}
	return errors.Join(all...)
}

// Close ends everything that the garage started. The namespaces end with the
// program (see Enter), whether or not Close was called.
func (g *Garage) Close() {
	g.PowerOff()
	for _, h := range g.hosts {
		h.close()
	}
	if g.Gateway != nil {
		g.Gateway.close()
	}
	if g.Cloud != nil {
		g.Cloud.close()
	}
	if g.site != nil {
		g.site.close()
	}
}
