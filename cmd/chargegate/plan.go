package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	iofs "io/fs"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/config"
	"chargegate/pkg/plan"
)

// A planning is what -json prints of plan for a configuration.
type planning struct {
	File string `json:"file"`
	*plan.Plan
	Notes  []string `json:"notes"`  // what was not looked at
	Faults []fault  `json:"faults"` // of the configuration; then there is no plan
}

// perCharger is how many conversations of one charger the daemon holds open
// when the configuration leaves it to egress.
const perCharger = 8

// runPlan reckons the configuration, or lays out a garage of -chargers. It needs
// no daemon.
func runPlan(_ context.Context, c *call, fs *flag.FlagSet, args []string) (int, error) {
	file := fs.String("config", defaultConfig, "")
	count := fs.Int("chargers", 0, "")
	if _, err := parse(fs, args, 0); err != nil {
		return exitNoAnswer, err
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	switch {
	case given["chargers"] && given["config"]:
		return exitNoAnswer, errUsage("-chargers lays out a garage without a configuration: leave -config out")
	case given["chargers"]:
		return c.planFor(*count)
	}
	return c.planOf(*file)
}

// planFor lays out a garage that does not exist yet.
func (c *call) planFor(n int) (int, error) {
	l, err := plan.For(n)
	if err != nil {
		return exitNoAnswer, err
	}
	if c.json {
		return exitWell, c.encode(l)
	}
	c.showLayout(l)
	return exitWell, nil
}

// planOf reckons what a configuration says.
func (c *call) planOf(file string) (int, error) {
	said := planning{File: file, Notes: []string{}, Faults: []fault{}}
	cfg, err := config.Load(file)
	if err != nil {
		return exitAttention, c.faultyPlan(said, err)
	}
	inv, err := cfg.ReadInventory()
	p, notes := reckon(cfg, inv, err)
	said.Plan, said.Notes = &p, append(said.Notes, notes...)
	code := attention(len(p.Findings) == 0)
	if c.json {
		return code, c.encode(said)
	}
	c.showPlan(p, notes)
	return code, nil
}

// reckon makes the plan with what was read of the inventory, and err of its
// reading; notes say what was not looked at.
func reckon(cfg *config.Config, inv charger.Inventory, err error) (p plan.Plan, notes []string) {
	s := siteOf(cfg, inv)
	file := filepath.Base(cfg.Inventory)
	var at *charger.LineError
	var lacking []plan.Finding
	const check = "Run: chargegated -check. It says what is wrong."
	switch {
	case cfg.Inventory == "":
		notes = append(notes, "there is no inventory: the plan knows nothing of single chargers")
		s.Listed = -1
	case errors.Is(err, iofs.ErrPermission):
		notes = append(notes, file+" was not looked at: permission denied; run it with sudo")
		s.Listed = -1
	case errors.As(err, &at):
		lacking = append(lacking, plan.Finding{Text: file + " has faults; what stands in those lines is not counted", Do: check})
	case err != nil:
		lacking = append(lacking, plan.Finding{Text: file + " cannot be read", Do: check})
		s.Listed = -1
	}
	p = plan.Of(s)
	p.Findings = append(p.Findings, lacking...)
	return p, notes
}

// siteOf is what pkg/plan wants to know of a configuration.
func siteOf(cfg *config.Config, inv charger.Inventory) plan.Site {
	s := plan.Site{Name: cfg.Site, Lease: cfg.DHCP.Lease, Listed: len(inv), Homeless: len(inv),
		Conversations: cfg.Egress.Total, PerCharger: cmp.Or(cfg.Egress.PerCharger, perCharger)}
	shares := cfg.Shares(inv)
	for i, n := range cfg.Networks {
		network := plan.Network{Name: n.Name, Interface: n.Interface, Chargers: n.Chargers, Pool: cfg.Pools[i], Share: shares[i], Chosen: cfg.Chosen(i)}
		if r := n.Radio; r != nil {
			network.Radio = &plan.Radio{SSID: r.SSID, Channel: r.Channel, Stations: r.MaxStations}
		}
		s.Networks = append(s.Networks, network)
		s.Homeless -= shares[i].Named
	}
	return s
}

// faultyPlan prints every fault of the configuration, or hands the error back.
func (c *call) faultyPlan(said planning, err error) error {
	if !c.json {
		return err
	}
	said.Faults = faultList(err)
	return c.encode(said)
}

func (c *call) encode(v any) error {
	e := json.NewEncoder(c)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}

// planWidth is how broad the pages of plan become at most: they are pasted into
// letters.
const planWidth = 100

// page is where plan prints.
func (c *call) page() *call {
	narrow, width := *c.terminal, c.width
	narrow.width = func() int {
		if w := width(); w > 0 && w < planWidth {
			return w
		}
		return planWidth
	}
	return &call{terminal: &narrow, socket: c.socket, json: c.json}
}

// showPlan prints the page of a configuration.
func (c *call) showPlan(p plan.Plan, notes []string) {
	c = c.page()
	fmt.Fprintf(c, "%s\n\n", c.in(bold, c.wrap(fmt.Sprintf("%s: %s, %s", safe(p.Site), count(len(p.Networks), "network"), count(p.Chargers, "charger")), 0)))
	c.showNetworks(p)
	fmt.Fprintln(c)
	c.showTotals(p)
	for _, note := range notes {
		c.detail("note", note)
	}
	fmt.Fprintln(c)
	if len(p.Findings) == 0 {
		fmt.Fprintln(c, c.in(green, c.sign("✓", "+")), "everything fits")
	}
	for _, f := range p.Findings {
		text, lead := f.Text, c.sign("↳ ", "> ")
		if f.Network != "" {
			text = f.Network + ": " + text
		}
		fmt.Fprintln(c, c.in(red, c.sign("✗", "!")), c.wrap(safe(text), 2))
		fmt.Fprintf(c, "  %s%s\n", lead, c.wrap(safe(f.Do), 2+len([]rune(lead))))
	}
}

// showNetworks prints which addresses each network has, and then what its radio
// and its data volume come to.
func (c *call) showNetworks(p plan.Plan) {
	addresses := &table{columns: []column{{head: "NETWORK"}, {head: "GATEWAY"}, {head: "ADDRESSES", right: true},
		{head: "FROM - TO", rank: 1}, {head: "FOR OTHERS", rank: 2}, {head: "RESERVED", rank: 3, right: true}}}
	radios := &table{columns: []column{{head: "NETWORK"}, {head: "CHARGERS", right: true}, {head: "LISTED", rank: 1, right: true}, {head: "ON", rank: 4}, {head: "WI-FI"},
		{head: "CHANNEL", right: true}, {head: "HOLDS", right: true}, {head: "A DAY", rank: 3, right: true}, {head: fmt.Sprintf("%d DAYS", plan.Month), rank: 2, right: true}}}
	for _, n := range p.Networks {
		name := cell{text: safe(n.Name)}
		listed, reserved := "", ""
		if n.Share != nil {
			listed, reserved = strconv.Itoa(n.Share.Named), strconv.Itoa(n.Share.Reserved)
		}
		wifi, channel, holds := "external access point", "", ""
		if r := n.Radio; r != nil {
			wifi, channel, holds = safe(r.SSID), strconv.Itoa(r.Channel), strconv.Itoa(r.Stations)
		}
		gateway := netip.PrefixFrom(n.Gateway, n.Subnet.Bits()).String()
		if n.Chosen {
			gateway += " (chosen)"
		}
		addresses.rows = append(addresses.rows, row{cells: []cell{name, {text: gateway}, {text: strconv.Itoa(n.Addresses)},
			{text: span(n.First, n.Last)}, {text: span(n.FirstStranger, n.LastStranger)}, {text: reserved}}})
		radios.rows = append(radios.rows, row{cells: []cell{name, {text: strconv.Itoa(n.Chargers)}, {text: listed}, {text: safe(n.Interface)}, {text: wifi}, {text: channel}, {text: holds},
			{text: volume(n.Volume.Day)}, {text: volume(n.Volume.Month)}}})
	}
	addresses.print(c.terminal, 0)
	fmt.Fprintln(c)
	radios.print(c.terminal, 0)
}

// span writes a range of addresses. Of the last, only the last number is written
// where it differs from the first in nothing else.
func span(first, last netip.Addr) string {
	a, b := first.String(), last.String()
	if dot := strings.LastIndexByte(b, '.'); strings.LastIndexByte(a, '.') == dot && a[:dot] == b[:dot] {
		b = b[dot:]
	}
	return a + " - " + b
}

// showFree says of each network which addresses are in no range.
func (c *call) showFree(networks []plan.Part) {
	var parts []string
	for _, n := range networks {
		var spans []string
		for _, r := range n.Free {
			spans = append(spans, span(r.First, r.Last))
		}
		text := cmp.Or(strings.Join(spans, " and "), "none")
		if len(networks) > 1 {
			text = n.Name + " " + text
		}
		parts = append(parts, text)
	}
	c.detail("free", "for reservations: "+strings.Join(parts, "; "))
}

// showTotals prints what holds for the whole box, and what was assumed.
func (c *call) showTotals(p plan.Plan) {
	c.showFree(p.Networks)
	c.detail("lease", fmt.Sprintf("%s; asked for again after %s, of any server after %s (Z-6)", seconds(p.Lease.Lease), seconds(p.Lease.Renew), seconds(p.Lease.Rebind)))
	c.detail("data", fmt.Sprintf("%s a day, %s in %d days, for %s (Z-14)", volume(p.Volume.Day), volume(p.Volume.Month), plan.Month, count(p.Chargers, "charger")))
	c.detail("assumed", fmt.Sprintf("%s a day for each charger, %s for each charging session, %s for each charger and day; new firmware is %s more for each",
		whole(plan.PerDay), whole(plan.PerSession), count(plan.Sessions, "session"), volume(plan.Firmware)))
	c.detail("uplink", fmt.Sprintf("%s at the least, for all of them to get new firmware within %s (F-7)", bits(p.Uplink), lasting(plan.FirmwareTime)))
	if p.Conversations > 0 {
		c.detail("daemon", fmt.Sprintf("holds %d conversations at once, %d of one charger; one box is laid out for %d chargers", p.Conversations, p.PerCharger, plan.PerBox))
	}
	if p.Homeless > 0 {
		c.detail("inventory", homeless(p.Homeless, *p.Listed))
	}
}

// homeless says that chargers of the inventory are on none of the networks.
func homeless(n, of int) string {
	if n == 1 {
		return fmt.Sprintf("1 of %s belongs to no network and is not counted: its column network is empty or names one that the configuration does not have", count(of, "charger"))
	}
	return fmt.Sprintf("%d of %s belong to no network and are not counted: their column network is empty or names one that the configuration does not have", n, count(of, "charger"))
}

// showLayout prints the page of a garage that does not exist yet.
func (c *call) showLayout(l plan.Layout) {
	c = c.page()
	fmt.Fprintf(c, "%s\n\n", c.in(bold, layoutHead(l)))
	radios := &table{columns: []column{{head: ""}, {head: "RADIO"}, {head: "PLANNED WITH", right: true}, {head: "NEEDED", right: true}, {head: "SEEN TO HOLD (F-10)", rank: 1}}}
	for _, r := range l.Radios {
		mark := cell{}
		if r.Chosen {
			mark = cell{c.sign("→", "*"), green}
		}
		radios.rows = append(radios.rows, row{cells: []cell{mark, {text: r.Name}, {text: strconv.Itoa(r.Stations)}, {text: strconv.Itoa(r.Count)}, {text: r.Seen}}})
	}
	radios.print(c.terminal, 0)
	fmt.Fprintln(c)
	c.showNetworks(l.Plan)
	fmt.Fprintln(c)
	c.showTotals(l.Plan)
	c.showAccessPoints(l)
	for _, r := range l.Radios {
		if r.Chosen {
			c.detail("radio", r.How)
		}
	}
	c.detail("beware", "what radios hold is what others saw, and no promise: try yours with as many chargers first. A Pi has one radio of its own.")
	if l.Boxes > 1 {
		all := int64(l.Chargers) * l.Plan.Volume.Day / int64(l.Plan.Chargers)
		c.detail("boxes", fmt.Sprintf("%d, each with all of this and an uplink of its own; together %s a day, %s in %d days", l.Boxes, volume(all), volume(plan.Month*all), plan.Month))
	}
	const where = "In /etc/chargegate/chargegate.toml, in place of every [[network]] and [network.radio] that is there"
	next := "Write each password into its file (README, Install, step 2), set country, and run:"
	if len(l.AccessPoints) > 0 { // these have a password of their own
		next = "Then run:"
	}
	fmt.Fprintf(c, "\n%s\n\n%s\n%s\n\n    sudo chargegated -check\n", c.in(bold, c.wrap(where, 0)), l.Fragment, c.wrap(next, 0))
}

func layoutHead(l plan.Layout) string {
	text := fmt.Sprintf("%s: %s", count(l.Chargers, "charger"), count(len(l.Plan.Networks), "network"))
	if l.Boxes > 1 {
		text = fmt.Sprintf("%s: %d boxes alike, each for up to %s", count(l.Chargers, "charger"), l.Boxes, count(l.Plan.Chargers, "charger"))
	}
	return text
}

// showAccessPoints says how many external ones there are on which channels.
func (c *call) showAccessPoints(l plan.Layout) {
	if len(l.AccessPoints) == 0 {
		return
	}
	on := map[int]int{}
	for _, channel := range l.AccessPoints {
		on[channel]++
	}
	var parts []string
	for _, channel := range plan.Channels {
		if on[channel] > 0 {
			parts = append(parts, fmt.Sprintf("%d on channel %d", on[channel], channel))
		}
	}
	c.detail("Wi-Fi", fmt.Sprintf("%s behind one switch on eth1: %s; neighbours on different ones. Each has a name (SSID) of its own (F-9), 2.4 GHz and WPA2 only, and keeps its clients apart; so does the switch.",
		count(len(l.AccessPoints), "external access point"), strings.Join(parts, ", ")))
	c.detail("eth1", "is a second Ethernet adapter, on a Pi one at USB for example; eth0 is the uplink")
}

func seconds(n int) string { return lasting(time.Duration(n) * time.Second) }

// whole is volume for round numbers of megabytes.
func whole(bytes int64) string { return fmt.Sprintf("%d MB", bytes/1e6) }

// bits writes a bit rate, rounded up to what a contract would say.
func bits(n int64) string {
	const step = 100_000
	return fmt.Sprintf("%.1f Mbit/s", float64((n+step-1)/step*step)/1e6)
}
