package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

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
// returned, and each fault of a row is a *charger.LineError.
func (c *Config) ReadInventory() (charger.Inventory, error) {
	if c.Inventory == "" {
		return charger.Inventory{}, nil
	}
	f, err := os.Open(c.Inventory)
	if err != nil {
		return charger.Inventory{}, fmt.Errorf("opening the inventory: %w%s", err, permit(err, c.Inventory, os.Geteuid()))
	}
	defer f.Close()
	networks := make([]charger.Network, len(c.Networks))
	for i, n := range c.Networks {
		networks[i] = charger.Network{Name: n.Name, Gateway: n.Gateway}
	}
	return charger.ReadInventory(f, networks)
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
	var at *charger.LineError
	if errors.As(err, &at) {
		return Faults{{File: c.Inventory, Line: at.Line, Column: 1, Text: at.Err.Error()}}
	}
	// The file itself cannot be read: the mistake may well be its name.
	text := fmt.Sprintf("%s cannot be read: %s; put the list there, or correct the path", c.Inventory, reason(err, c.Inventory, os.Geteuid()))
	return Faults{{File: c.File, Line: c.inventory.line, Column: c.inventory.column, Key: "site.inventory", Text: text}}
}
