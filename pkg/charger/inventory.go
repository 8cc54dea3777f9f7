package charger

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Charger is one row of the inventory.
type Charger struct {
	MAC     MAC    `json:"mac"`
	Name    string `json:"name"`              // the parking space, as painted on the wall: P1-07
	Serial  string `json:"serial,omitempty"`  // ZAP… Go, ZPR… Pro, ZCS… older Pro, ZCH… Home
	Model   string `json:"model,omitempty"`   // free text: "Go", "Pro"
	Network string `json:"network,omitempty"` // the [[network]] it belongs to; empty: any
	// Reserved is the address that is kept for it and for nobody else, in the
	// subnet of Network; invalid: none, it gets whichever is free.
	Reserved netip.Addr `json:"reserved,omitzero"`
}

// On says whether a charger belongs to a network: to its own, or to any if its row
// names none.
func (c Charger) On(network string) bool { return c.Network == "" || c.Network == network }

// An Inventory is the chargers that are known by name.
type Inventory map[MAC]Charger

// A LineError is what is wrong with one line of the inventory.
type LineError struct {
	Line int // counts from 1
	Err  error
}

// Error writes the line before the fault.
func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns the fault.
func (e *LineError) Unwrap() error { return e.Err }

const (
	// maxName bounds what is shown for a charger, in bytes.
	maxName = 40
	// maxInventory bounds the file in bytes; a thousand chargers need some
	// sixty thousand.
	maxInventory = 1 << 20
)

// ReadInventory reads chargers.csv: a header line that names the columns mac,
// name, serial, model, network and address (mac and name must be there, in any
// order), then a line for each charger. The header says what separates the values: a
// comma, a semicolon (spreadsheets in most of Europe) or a tab. Passed over are
// lines that begin with #, lines that hold nothing but separators, and a
// spreadsheet's "sep=;" before the header.
//
// A row that names a network other than those given is a fault, and stays. So
// does a row whose address cannot be kept for it, without the address. A row
// that has an address and names no network belongs to the one whose subnet holds
// the address.
//
// Every other row with a fault is left out. The error joins all faults, each a
// *LineError with what is right; it is another error only when r failed. The
// rows without a fault are always returned, so that a slip of the finger takes
// one name away and not all of them.
func ReadInventory(r io.Reader, networks []Network) (Inventory, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxInventory+1))
	if err != nil {
		return Inventory{}, fmt.Errorf("reading the inventory: %w", err)
	}
	if text, err = plain(text); err != nil {
		return Inventory{}, &LineError{1, err}
	}
	in := &inventoryReader{comma: separator(text), inv: Inventory{}, lines: map[string]int{}, kept: map[netip.Addr]Charger{}, networks: networks}
	in.read(text)
	in.sayForeign()
	return in.inv, errors.Join(in.faults...)
}

// plain takes away what spreadsheets put before the header, and refuses what
// cannot be a list of chargers.
func plain(text []byte) ([]byte, error) {
	if len(text) > maxInventory {
		return nil, fmt.Errorf("the file has more than %d bytes; that cannot be a list of chargers", maxInventory)
	}
	switch zeros := bytes.Count(text, []byte{0}); {
	case bytes.HasPrefix(text, []byte("\xff\xfe")), bytes.HasPrefix(text, []byte("\xfe\xff")), zeros > 0 && 2*zeros == len(text):
		return nil, errors.New("the file is UTF-16; " + asUTF8)
	case zeros > 0:
		return nil, errors.New("the file is damaged, as after a power cut: it is not text any more; put a copy in its place")
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	if bytes.HasPrefix(bytes.ToLower(bytes.Trim(first, `"`)), []byte("sep=")) {
		text = append([]byte("\n"), rest...) // the lines keep their numbers
	}
	return text, nil
}

// asUTF8 is what to do about another encoding.
const asUTF8 = "save as UTF-8 (CSV UTF-8 in Excel)"

// separator is what the header puts between its columns.
func separator(text []byte) rune {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || bytes.HasPrefix(bytes.TrimLeft(line, `"`), []byte("#")) {
			continue
		}
		best, most := ',', 0
		for _, sep := range ",;\t" {
			if n := bytes.Count(line, []byte(string(sep))); n > most {
				best, most = sep, n
			}
		}
		if most > 0 {
			return best
		}
	}
	return ','
}

// An inventoryReader goes through the rows of one file.
type inventoryReader struct {
	comma    rune
	networks []Network
	column   map[string]int // nil until the header was read
	inv      Inventory
	lines    map[string]int         // where each name was seen first
	kept     map[netip.Addr]Charger // for whom each address is kept
	foreign  []int                  // lines that are not UTF-8
	faults   []error
}

// read goes through all rows, up to a header that cannot be used. Each line is a
// row of its own, so that a quotation mark too many costs that one and not all that
// follow.
func (in *inventoryReader) read(text []byte) {
	line := 0
	for written := range bytes.Lines(text) {
		line++
		row, err := in.values(written)
		if err != nil {
			in.fault(line, errors.New(`a quotation mark " too many, or one is missing; values need none, and stand on one line`))
			continue
		}
		if len(row) == 0 || strings.HasPrefix(row[0], "#") {
			continue
		}
		if in.column == nil {
			if in.column, err = columns(row); err != nil {
				in.fault(line, err)
				return
			}
			continue
		}
		in.row(line, row)
	}
}

// values are those of one line; none where it is empty or a comment.
func (in *inventoryReader) values(line []byte) ([]string, error) {
	if len(bytes.TrimSpace(line)) == 0 || line[0] == '#' {
		return nil, nil
	}
	r := csv.NewReader(bytes.NewReader(line))
	r.Comma = in.comma
	r.TrimLeadingSpace = in.comma != '\t' // else empty values would vanish
	row, err := r.Read()
	return filled(row), err
}

func (in *inventoryReader) fault(line int, err error) {
	in.faults = append(in.faults, &LineError{line, err})
}

// filled is a row without spaces around its values and without empty ones at
// its end, which a spreadsheet writes where another row is longer.
func filled(row []string) []string {
	for i := range row {
		row[i] = strings.TrimSpace(row[i])
	}
	for len(row) > 0 && row[len(row)-1] == "" {
		row = row[:len(row)-1]
	}
	return row
}

// row takes one charger over.
func (in *inventoryReader) row(line int, row []string) {
	if slices.ContainsFunc(row, func(v string) bool { return !utf8.ValidString(v) }) {
		in.foreign = append(in.foreign, line)
		return
	}
	c, err := in.parse(row)
	if err == nil {
		err = clash(in.inv, in.lines, c)
	}
	if err != nil {
		in.fault(line, err)
		return
	}
	if c, err = in.reserve(c, in.value(row, "address")); err != nil {
		in.fault(line, err)
	}
	in.inv[c.MAC] = c
	in.lines[c.Name] = line
}

// sayForeign says once that the file is in another encoding: it is one mistake,
// however many rows show it.
func (in *inventoryReader) sayForeign() {
	switch n := len(in.foreign); n {
	case 0:
	case 1:
		in.fault(in.foreign[0], errors.New("this is not UTF-8; "+asUTF8))
	default:
		in.fault(in.foreign[0], fmt.Errorf("this is not UTF-8, and neither are %d lines more; %s", n-1, asUTF8))
	}
}

var columnNames = [...]string{"mac", "name", "serial", "model", "network", "address"}

// columns finds where each column stands.
func columns(head []string) (map[string]int, error) {
	column := map[string]int{}
	for i, h := range head {
		h = strings.ToLower(h)
		if _, twice := column[h]; twice {
			return nil, fmt.Errorf("column %q stands twice", h)
		}
		column[h] = i
	}
	isColumn := func(h string) bool { return slices.Contains(columnNames[:], h) }
	if !slices.ContainsFunc(head, func(h string) bool { return isColumn(strings.ToLower(h)) }) {
		return nil, errors.New("the first line must name the columns, like: mac,name,serial,model")
	}
	for _, h := range head {
		if h = strings.ToLower(h); !isColumn(h) {
			return nil, fmt.Errorf("%q is not a column; allowed are %s", shown(h), strings.Join(columnNames[:], ", "))
		}
	}
	for _, must := range []string{"mac", "name"} {
		if _, ok := column[must]; !ok {
			return nil, fmt.Errorf("no column %q; the first line names the columns, like: mac,name,serial,model,network", must)
		}
	}
	return column, nil
}

// shown bounds what a fault repeats.
func shown(v string) string {
	if len(v) > maxName {
		return v[:maxName] + "..."
	}
	return v
}

// value is what a row has in a column; empty where there is none.
func (in *inventoryReader) value(row []string, column string) string {
	if i, ok := in.column[column]; ok && i < len(row) {
		return row[i]
	}
	return ""
}

// parse reads all of a row but the address.
func (in *inventoryReader) parse(row []string) (Charger, error) {
	if len(row) > len(in.column) {
		return Charger{}, fmt.Errorf("%d values, but the header names %d columns", len(row), len(in.column))
	}
	value := func(column string) string { return in.value(row, column) }
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
			return Charger{}, fmt.Errorf("%q: a value has at most %d bytes, all printable", shown(v), maxName)
		}
	}
	if isSerial(c.Name) {
		return Charger{}, fmt.Errorf("serial and name seem swapped: %s is a serial number; the name is the parking space, like P1-07", c.Name)
	}
	return c, nil
}

// isSerial says whether a name is what Zaptec prints on the label.
func isSerial(name string) bool {
	if len(name) < 4 {
		return false
	}
	switch strings.ToUpper(name[:3]) {
	case "ZAP", "ZPR", "ZCS", "ZCH":
		return strings.Trim(name[3:], "0123456789") == ""
	}
	return false
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
