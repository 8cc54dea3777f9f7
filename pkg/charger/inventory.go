package charger

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// A Charger is one row of the inventory.
type Charger struct {
	MAC     MAC    `json:"mac"`
	Name    string `json:"name"`              // the parking space, as painted on the wall: P1-07
	Serial  string `json:"serial,omitempty"`  // ZAP… Go, ZPR… Pro, ZCS… older Pro, ZCH… Home
	Model   string `json:"model,omitempty"`   // free text: "Go", "Pro"
	Network string `json:"network,omitempty"` // the [[network]] it belongs to; empty: any
}

// An Inventory is the chargers that are known by name.
type Inventory map[MAC]Charger

// maxName bounds what is shown for a charger.
const maxName = 40

// ReadInventory reads chargers.csv: a header line that names the columns mac,
// name, serial, model and network (mac and name must be there, in any order),
// then a line for each charger. Empty lines and lines that begin with # are
// passed over.
//
// Rows with a fault are left out; the error joins every fault, each with the
// line and what is right. The rows without a fault are always returned, so that
// a slip of the finger takes one name away and not all of them.
func ReadInventory(r io.Reader) (Inventory, error) {
	rows := csv.NewReader(r)
	rows.Comment = '#'
	rows.TrimLeadingSpace = true
	rows.FieldsPerRecord = -1
	head, err := rows.Read()
	if errors.Is(err, io.EOF) {
		return Inventory{}, nil
	}
	if err != nil {
		return Inventory{}, fmt.Errorf("reading the header: %w", err)
	}
	column, err := columns(head)
	if err != nil {
		return Inventory{}, err
	}
	inv := Inventory{}
	lines := map[string]int{} // where each name was seen first
	var faults []error
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			var pe *csv.ParseError
			if !errors.As(err, &pe) { // the medium failed, not the text
				return inv, errors.Join(append(faults, err)...)
			}
			faults = append(faults, fmt.Errorf("line %d: %w", pe.Line, pe.Err))
			continue
		}
		line, _ := rows.FieldPos(0)
		c, err := parseRow(row, column)
		if err == nil {
			err = clash(inv, lines, c)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("line %d: %w", line, err))
			continue
		}
		inv[c.MAC] = c
		lines[c.Name] = line
	}
	return inv, errors.Join(faults...)
}

// columns finds where each column stands.
func columns(head []string) (map[string]int, error) {
	column := map[string]int{}
	for i, h := range head {
		h = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(h, "\ufeff"))) // spreadsheets write a byte order mark
		switch h {
		case "mac", "name", "serial", "model", "network":
		default:
			return nil, fmt.Errorf("line 1: %q is not a column; allowed are mac, name, serial, model, network", h)
		}
		if _, twice := column[h]; twice {
			return nil, fmt.Errorf("line 1: column %q stands twice", h)
		}
		column[h] = i
	}
	for _, must := range []string{"mac", "name"} {
		if _, ok := column[must]; !ok {
			return nil, fmt.Errorf("line 1: no column %q; the first line names the columns, like: mac,name,serial,model,network", must)
		}
	}
	return column, nil
}

func parseRow(row []string, column map[string]int) (Charger, error) {
	if len(row) > len(column) {
		return Charger{}, fmt.Errorf("%d values, but the header names %d columns", len(row), len(column))
	}
	value := func(name string) string {
		if i, ok := column[name]; ok && i < len(row) {
			return strings.TrimSpace(row[i])
		}
		return ""
	}
	mac, err := ParseMAC(value("mac"))
	if err != nil {
		return Charger{}, err
	}
	c := Charger{MAC: mac, Name: value("name"), Serial: value("serial"), Model: value("model"), Network: value("network")}
	if c.Name == "" {
		return Charger{}, fmt.Errorf("%s has no name; write the parking space, like P1-07", mac)
	}
	for _, v := range []string{c.Name, c.Serial, c.Model, c.Network} {
		if len(v) > maxName || strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return Charger{}, fmt.Errorf("%q: a value has at most %d bytes, all printable", v, maxName)
		}
	}
	return c, nil
}

func clash(inv Inventory, lines map[string]int, c Charger) error {
	if other, twice := inv[c.MAC]; twice {
		return fmt.Errorf("%s stands twice: as %s and as %s", c.MAC, other.Name, c.Name)
	}
	if at, twice := lines[c.Name]; twice {
		return fmt.Errorf("the name %s is taken by line %d; each charger has its own", c.Name, at)
	}
	return nil
}
