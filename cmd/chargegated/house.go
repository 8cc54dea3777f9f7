package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"chargegate/pkg/charger"
	"chargegate/pkg/config"
	"chargegate/pkg/denied"
	"chargegate/pkg/dhcp"
	"chargegate/pkg/egress"
	"chargegate/pkg/event"
	"chargegate/pkg/handover"
	"chargegate/pkg/lease"
	"chargegate/pkg/ntprelay"
	"chargegate/pkg/policy"
	"chargegate/pkg/radio"
	"chargegate/pkg/resolver"
	"chargegate/pkg/run"
	"chargegate/pkg/status"
	"chargegate/pkg/uplink"
)

// A house is everything that one configuration makes of the daemon.
type house struct {
	began     time.Time
	cfg       *config.Config // what the house was built from
	taken     *config.Config // what is in force since the last reload
	options   options
	log       *event.Log
	flush     func()
	book      *charger.Book
	list      *policy.List
	leases    *lease.Table
	store     *handover.Store
	addresses *dhcp.Server
	names     *resolver.Server
	clock     *ntprelay.Server
	radio     *radio.Server
	wire      *uplink.Server
	porter    *egress.Server
	accounts  *accounts
	signals   *signals
	services  []run.Service
}

// open builds the house. It takes what is on disk, and no socket yet. Whatever
// goes wrong has been said as an event when it returns an error.
func open(cfg *config.Config, err error, o options, w io.Writer) (*house, error) {
	if err != nil {
		log, flush := openLog(config.Log{Format: "auto", Level: event.Info}, w)
		defer flush()
		sayFaults(log, err)
		return nil, err
	}
	h := &house{began: time.Now(), cfg: cfg, taken: cfg, options: o}
	h.log, h.flush = openLog(cfg.Log, w)
	h.log.Say(event.DaemonStarting, event.F("VERSION", buildVersion()), event.F("SITE", cfg.Site), event.F("NETWORKS", networkNames(cfg)))
	if err := h.furnish(); err != nil {
		h.log.Say(event.DaemonFailed, event.Err(err))
		h.flush()
		return nil, err
	}
	return h, nil
}

// furnish builds the nouns and the rooms, in the order of the packet's way.
func (h *house) furnish() error {
	cfg, o, log := h.cfg, h.options, h.log
	if err := os.MkdirAll(o.run, 0o755); err != nil {
		return fmt.Errorf("making the directory for sockets: %w", err)
	}
	cfg.Tell(log)
	told := newNews(log, h.began)
	inventory := h.inventory(cfg, 0)
	h.book = charger.NewBook(inventory, func(c charger.Charger, from, to charger.Stage) { told.moved(c, from, to, time.Now()) })
	told.book = h.book
	log.SetWho(h.who)

	var err error
	if h.list, err = policy.New(cfg.Rules); err != nil {
		return fmt.Errorf("reading the rules: %w", err)
	}
	var found lease.Report
	if h.leases, found, err = lease.Open(filepath.Join(o.state, "leases"), cfg.Pools, config.Reservations(inventory), h.began); err != nil {
		return err
	}
	dhcp.SayFound(found, log)
	if h.store, err = handover.Open(); err != nil {
		return fmt.Errorf("taking over descriptors: %w", err)
	}
	cfg.DHCP.LockDir = o.run
	cfg.Status.Socket = filepath.Join(o.run, "status.sock")

	h.addresses = dhcp.New(cfg.DHCP, h.leases, h.book, log)
	h.clock = ntprelay.New(cfg.NTP, h.book, log)
	cfg.DNS.Synchronised = func() bool { return h.clock.Clock().Synchronised }
	cfg.DNS.File = filepath.Join(o.state, "names")
	h.names = resolver.New(cfg.DNS, h.list, h.book, log)
	h.accounts = openAccounts(filepath.Join(o.state, "volume"), filepath.Join(o.run, "dated"), h.book, cfg.DNS.Synchronised, log)
	h.porter = egress.New(cfg.Egress, h.list, h.names, h.book, h.store, log)
	h.porter.KeepAccounts(h.accounts)
	h.accounts.saving = h.porter.Saving
	firewall := denied.New(cfg.Denied, h.book, log)
	h.radio = radio.New(cfg.Radio, h.book, log)
	h.signals = openSignals(filepath.Join(o.state, "signal"), h.book, h.accounts.dated, log)
	h.signals.SetLimits(cfg.Radio.Signal)
	h.radio.KeepHistory(h.signals)
	h.wire = uplink.New(uplink.Config{Interface: cfg.Uplink.Interface}, log)
	collectors := []prometheus.Collector{h.addresses, h.names, h.clock, h.porter, firewall, h.radio, h.wire, h.accounts, h.signals}
	board := status.New(cfg.Status, h.sources(collectors), log)

	h.services = []run.Service{h.addresses, h.names, h.clock, h.accounts, h.signals, h.porter, firewall, h.radio, h.wire, board, told, &reloader{house: h}}
	return nil
}

// serve keeps the house running until ctx is done.
func (h *house) serve(ctx context.Context) error {
	defer h.flush()
	err := run.All(ctx, run.Options{
		Log:    h.log,
		Alive:  h.names.Ask,
		Status: func() string { return charger.Summary(h.book.All(time.Now())) },
		Ready:  h.ready,
	}, h.services...)
	if err != nil {
		h.log.Say(event.DaemonFailed, event.Err(err))
	}
	h.accounts.save(time.Now())
	h.signals.save(time.Now())
	if closing := h.leases.Close(); closing != nil {
		h.log.Say(event.LeaseStorageFailed, event.Err(closing))
	}
	h.log.Say(event.DaemonStopped, event.F("UPTIME", time.Since(h.began)))
	return err
}

// ready says that chargers are served, and lets go of what the process before
// this one kept and nobody has a use for.
func (h *house) ready() {
	h.log.Say(event.DaemonReady, event.F("TOOK", time.Since(h.began)))
	unclaimed, err := h.store.CloseUnclaimed()
	for _, name := range unclaimed {
		h.log.Say(event.HandoverUnusable, event.F("WHAT", name), event.F("REASON", "the configuration has no use for it"))
	}
	if err != nil {
		h.log.Say(event.HandoverKeepFailed, event.F("WHAT", "what is not used any more"), event.Err(err))
	}
}

// sayFaults says why the configuration cannot be used, a line for each fault.
func sayFaults(log *event.Log, err error) {
	var faults config.Faults
	if errors.As(err, &faults) {
		faults.Tell(log)
		return
	}
	log.Say(event.DaemonFailed, event.Err(err))
}

// inventory reads chargers.csv. A fault in it costs the names of the rows that
// have one, never the service. It returns nil, and says so, when no row is left
// though had chargers were known before: an editor that was interrupted, or a
// header that cannot be used, must not take everybody's name.
func (h *house) inventory(cfg *config.Config, had int) charger.Inventory {
	if cfg.Inventory == "" {
		return charger.Inventory{}
	}
	inv, err := cfg.ReadInventory()
	file := event.F("FILE", cfg.Inventory)
	for _, fault := range faultsOf(err) {
		h.log.Say(event.InventoryFault, file, event.Err(fault))
	}
	switch {
	case len(inv) > 0:
		h.log.Say(event.InventoryLoaded, event.F("CHARGERS", chargers(len(inv))), event.F("COUNT", len(inv)), file)
		cfg.TellShares(inv, h.log)
	case had > 0:
		h.log.Say(event.InventoryKept, event.F("CHARGERS", chargers(had)), event.F("COUNT", had), file)
		return nil
	default:
		h.log.Say(event.InventoryEmpty, file)
	}
	return inv
}

// chargers counts them as people do.
func chargers(n int) string {
	if n == 1 {
		return "1 charger"
	}
	return fmt.Sprintf("%d chargers", n)
}

// faultsOf takes a joined error apart, so that each fault is a line of its own.
func faultsOf(err error) []error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range many.Unwrap() {
			all = append(all, faultsOf(e)...)
		}
		return all
	}
	return []error{err}
}

// who names the subject of an event from the book.
func (h *house) who(mac [6]byte, ip netip.Addr) event.Subject {
	hw := charger.MAC(mac)
	if hw == (charger.MAC{}) {
		at, ok := h.book.At(ip)
		if !ok {
			return event.Subject{}
		}
		if _, own := h.book.Where(at); own != ip.Unmap() { // with a charger's MAC on another network
			return event.Subject{Charger: h.book.NameAt(ip), MAC: net.HardwareAddr(at[:]).String(), IP: ip.String()}
		}
		hw = at
	}
	s := event.Subject{Charger: h.book.NameOf(hw), MAC: net.HardwareAddr(hw[:]).String()}
	network, addr := h.book.Where(hw)
	s.Network = network
	if addr.IsValid() {
		s.IP = addr.String()
	}
	return s
}

func networkNames(cfg *config.Config) string {
	var names []string
	for _, n := range cfg.Networks {
		names = append(names, fmt.Sprintf("%s on %s (%s)", n.Name, n.Interface, n.Gateway))
	}
	return strings.Join(names, ", ")
}
