package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"chargegate/pkg/charger"
)

// CheckFiles says what is wrong with the files that the configuration names:
// passphrases and the inventory. The error is of type Faults. What this process
// may not read is passed over, because the daemon may not read passphrases and
// has no need to: run as root, it sees everything.
func (c *Config) CheckFiles() error {
	var faults Faults
	for i, n := range c.Networks {
		if n.Radio == nil {
			continue
		}
		if err := n.Radio.Passphrase.check(); err != nil {
			faults = append(faults, Fault{
				File: c.File, Line: c.secrets[i].line, Column: c.secrets[i].column,
				Key: fmt.Sprintf("network[%d].radio.passphrase", i+1), Text: err.Error(),
			})
		}
	}
	_, err := c.ReadInventory()
	if !errors.Is(err, fs.ErrPermission) {
		faults = append(faults, c.inventoryFaults(err)...)
	}
	return faults.err()
}

// ReadInventory reads the chargers' list; an empty one where the configuration
// names none. As with charger.ReadInventory the rows without a fault are always
// returned. A row that names a network which does not exist is a fault, and
// stays.
func (c *Config) ReadInventory() (charger.Inventory, error) {
	if c.Inventory == "" {
		return charger.Inventory{}, nil
	}
	f, err := os.Open(c.Inventory)
	if err != nil {
		return charger.Inventory{}, fmt.Errorf("opening the inventory: %w", err)
	}
	defer f.Close()
	inv, err := charger.ReadInventory(f)
	for _, one := range inv {
		if one.Network != "" && !c.hasNetwork(one.Network) {
			err = errors.Join(err, fmt.Errorf("%s belongs to network %q, which the configuration does not have", one.Name, one.Network))
		}
	}
	return inv, err
}

func (c *Config) hasNetwork(name string) bool {
	for _, n := range c.Networks {
		if n.Name == name {
			return true
		}
	}
	return false
}

// inventoryFaults takes a joined error apart and puts each at its line.
func (c *Config) inventoryFaults(err error) Faults {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var faults Faults
		for _, one := range many.Unwrap() {
			faults = append(faults, c.inventoryFaults(one)...)
		}
		return faults
	}
	f := Fault{File: c.Inventory, Line: 1, Column: 1, Text: err.Error()}
	var line int
	if n, _ := fmt.Sscanf(f.Text, "line %d:", &line); n == 1 {
		_, f.Text, _ = strings.Cut(f.Text, ": ")
		f.Line = line
	}
	return Faults{f}
}
