package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"chargegate/pkg/charger"
	"chargegate/pkg/config"
	"chargegate/pkg/event"
)

// A machine is what -check wants to know of the one that it runs on.
type machine struct {
	interfaces []string // without lo
	running    bool     // a daemon is there
}

// interfaces are those of this machine. That they cannot be listed is no reason
// not to read the configuration.
func interfaces() []string {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var names []string
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 {
			names = append(names, i.Name)
		}
	}
	return names
}

// runs says whether a daemon has its socket in the directory.
func runs(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "status.sock"))
	return err == nil
}

// check is chargegated -check: every fault on its line; or what the house will
// look like, what deserves a look, and what to do next.
func check(cfg *config.Config, err error, m machine, out, complain io.Writer) int {
	if err == nil {
		err = cfg.CheckFiles()
	}
	if err != nil {
		fmt.Fprintln(complain, err)
		return exitConfig
	}
	for _, n := range cfg.Networks {
		fmt.Fprintf(out, "%s: network %s on %s, %s, room for %s\n", cfg.File, n.Name, n.Interface, n.Gateway, chargers(n.Chargers))
	}
	inventory, err := cfg.ReadInventory()
	fmt.Fprintf(out, "%s: %s\n", cfg.File, namesRead(cfg, len(inventory), err))
	for _, line := range cfg.Allowed() {
		fmt.Fprintf(out, "%s: %s\n", cfg.File, line)
	}
	for _, r := range warnings(cfg, inventory, err) {
		fmt.Fprintf(out, "to look at: %s\n", r.Message)
		if advice := r.Advice(); advice != "" {
			fmt.Fprintf(out, "    ↳ %s\n", advice)
		}
	}
	for _, remark := range cfg.Remarks(m.interfaces) {
		fmt.Fprintf(out, "to look at: %s\n", remark)
	}
	fmt.Fprintf(out, "%s: no faults\n", cfg.File)
	fmt.Fprintf(out, "next: %s\n", next(cfg, m.running))
	return exitStopped
}

// warnings are what the daemon would say of the configuration at its start.
func warnings(cfg *config.Config, inventory charger.Inventory, err error) []event.Record {
	log := event.New(event.Options{Keep: keep})
	cfg.Tell(log)
	if cfg.Inventory != "" && len(inventory) == 0 && err == nil {
		log.Say(event.InventoryEmpty, event.F("FILE", cfg.Inventory))
	}
	cfg.TellShares(inventory, log)
	return log.Recent(0, "")
}

// namesRead says what the inventory holds. CheckFiles has found no fault in it.
func namesRead(cfg *config.Config, names int, err error) string {
	file := filepath.Base(cfg.Inventory)
	switch {
	case cfg.Inventory == "":
		return "no inventory: each charger is called by its MAC address"
	case errors.Is(err, fs.ErrPermission):
		return file + " was not looked at: permission denied; run it with sudo"
	}
	return file + ": " + chargers(names)
}

// next is the command that puts the configuration to work.
func next(cfg *config.Config, running bool) string {
	if running {
		return "sudo systemctl restart chargegate-prepare (the chargers' names alone: sudo systemctl reload chargegated)"
	}
	units := []string{"systemd-networkd", "chargegate-prepare", "chargegate-firewall", "chargegated"}
	for _, n := range cfg.Networks {
		if n.Radio != nil {
			units = append(units, "chargegate-ap@"+n.Name)
		}
	}
	return "sudo systemctl enable --now " + strings.Join(units, " ")
}
