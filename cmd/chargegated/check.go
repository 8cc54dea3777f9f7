package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/config"
	"chargegate/pkg/event"
	"chargegate/pkg/revive"
)

// A machine is what -check wants to know of the one that it runs on.
type machine struct {
	interfaces []string // without lo
	running    bool     // a daemon is there
	reviveOff  bool     // chargegate-revive is installed, and off now or at the next boot
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

// reviveUnit brings dead radios back, where revive of a network lets it.
const reviveUnit = "chargegate-revive"

// reviveOff asks systemd whether chargegate-revive was never switched on. Where there
// is no systemd nobody knows.
func reviveOff() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	shown, err := exec.CommandContext(ctx, "systemctl", "show", "--property=LoadState,ActiveState,UnitFileState", reviveUnit).Output()
	return err == nil && off(string(shown))
}

// off reads what systemd says of a unit. One that is not there, or that somebody has
// masked, is not to be switched on.
func off(shown string) bool {
	is := func(line string) bool { return slices.Contains(strings.Fields(shown), line) }
	return is("LoadState=loaded") && (is("ActiveState=inactive") || is("ActiveState=failed") || is("UnitFileState=disabled"))
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
	if names := revived(cfg); len(names) > 0 && m.running && m.reviveOff {
		fmt.Fprintf(out, "to look at: revive is set for %s, but %s is off: nothing is done for a dead radio\n", strings.Join(names, ", "), reviveUnit)
		fmt.Fprintf(out, "    ↳ Run: sudo systemctl enable --now %s\n", reviveUnit)
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

// revived are the networks for whose radio something may be done when it is dead.
func revived(cfg *config.Config) []string {
	var names []string
	for _, n := range cfg.Networks {
		if n.Radio != nil && n.Radio.Revive > revive.No {
			names = append(names, n.Name)
		}
	}
	return names
}

// radios are the units of the networks with a radio.
func radios(cfg *config.Config) []string {
	var units []string
	for _, n := range cfg.Networks {
		if n.Radio != nil {
			units = append(units, "chargegate-radio@"+n.Name)
		}
	}
	return units
}

// next is the command that puts the configuration to work. A radio that runs is
// restarted only by whoever has changed it: its chargers lose their Wi-Fi.
func next(cfg *config.Config, running bool) string {
	air := radios(cfg)
	if running {
		less := "the chargers' names alone: sudo systemctl reload chargegated"
		if len(air) > 0 {
			less += "; where a radio was changed, add " + strings.Join(air, " ") + ", and its chargers reconnect"
		}
		return "sudo systemctl restart chargegate-prepare (" + less + ")"
	}
	units := append([]string{"systemd-networkd", "chargegate-prepare", "chargegate-firewall", "chargegated"}, air...)
	if len(air) > 0 {
		units = append(units, reviveUnit) // it ends well where no radio wants it
	}
	return "sudo systemctl enable --now " + strings.Join(units, " ")
}
