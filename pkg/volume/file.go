package volume

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A day's file is text, so that it can be read without this program:
//
//	chargegate-volume 1 0123abcd
//	{"day":"2026-11-21","names":["zapcloud.azure-devices.net","api.zaptec.com"]}
//	601592410007 0 0 1250000 3400 2 1 81234 90123 12
//
// The first line holds a checksum over all that follows it. Each further line is a
// device, the second at which it came above Ordinary (0: it did not), and then for
// each name its place in the list above, bytes up, bytes down and conversations.
// The accounts of before the clock was known have no day. The file of a day that
// they were entered in holds the checksum of theirs, as "undated", until theirs is
// removed: they are not entered twice if the box loses its power in between.
//
// With three names each a charger takes 75 bytes: 3 kB a day for 40 chargers, 18 kB
// for 250, 75 kB for 1000. The file of the day is written again every hour, and the
// others never: 75 kB, 440 kB and 1.8 MB written in a day, and 0.2, 1.1 and 4.5 MB on
// the disk for 62 days.
const (
	fileMagic   = "chargegate-volume"
	fileVersion = 1
	// maxFile bounds a file. The fullest day there can be takes less.
	maxFile = 3 << 20
	nobody  = "-" // stands for the zero MAC
)

// head is the second line of a file.
type head struct {
	Day   string   `json:"day,omitempty"`
	Names []string `json:"names"`
	// Undated is the checksum of the undated file whose accounts stand in this one; in
	// that file itself a number that makes it different from any other.
	Undated string `json:"undated,omitempty"`
}

// encode writes a day down. wall turns a moment into one of the calendar; nil: it
// is not known.
func (d *day) encode(wall func(time.Time) time.Time) []byte {
	h := head{Names: []string{}, Undated: d.holds}
	if d.date != 0 {
		h.Day = d.date.String()
	}
	place := map[string]int{}
	var rows bytes.Buffer
	for _, mac := range slices.SortedFunc(maps.Keys(d.of), func(x, y MAC) int { return bytes.Compare(x[:], y[:]) }) {
		a := d.of[mac]
		who := nobody
		if mac != (MAC{}) {
			who = hex.EncodeToString(mac[:])
		}
		var heavy int64
		switch {
		case a.heavy.IsZero():
		case wall != nil:
			heavy = max(0, wall(a.heavy).Unix())
		}
		fmt.Fprintf(&rows, "%s %d", who, heavy)
		for _, l := range a.lines {
			i, ok := place[l.name]
			if !ok {
				i = len(h.Names)
				place[l.name] = i
				h.Names = append(h.Names, l.name)
			}
			fmt.Fprintf(&rows, " %d %d %d %d", i, l.Up, l.Down, l.Sessions)
		}
		rows.WriteByte('\n')
	}
	first, err := json.Marshal(h)
	if err != nil { // strings always can be
		first = []byte("{}")
	}
	body := slices.Concat(first, []byte("\n"), rows.Bytes())
	return append(fmt.Appendf(nil, "%s %d %08x\n", fileMagic, fileVersion, checksum(body)), body...)
}

// sumOf is the checksum of a file as its first line tells it.
func sumOf(data []byte) string {
	_, body, _ := bytes.Cut(data, []byte("\n"))
	return fmt.Sprintf("%08x", checksum(body))
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// decode reads what encode wrote. Anything else is an error that says what is
// wrong, and nothing is read of it.
func decode(data []byte) (*day, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("it is larger than %d KiB", maxFile>>10)
	}
	magic, body, _ := bytes.Cut(data, []byte("\n"))
	var version int
	var sum uint32
	if n, _ := fmt.Sscanf(string(magic), fileMagic+" %d %x", &version, &sum); n < 1 {
		return nil, errors.New("it holds no accounts")
	} else if version != fileVersion {
		return nil, fmt.Errorf("its version is %d, and %d can be read", version, fileVersion)
	} else if n < 2 || sum != checksum(body) {
		return nil, errors.New("its checksum is wrong")
	}
	first, rows, _ := bytes.Cut(body, []byte("\n"))
	var h head
	if err := json.Unmarshal(first, &h); err != nil {
		return nil, fmt.Errorf("its second line cannot be read: %w", err)
	}
	if err := h.check(); err != nil {
		return nil, err
	}
	d := newDay(0)
	d.holds, d.sum = h.Undated, sumOf(data)
	if h.Day != "" {
		date, ok := parseDate(h.Day)
		if !ok {
			return nil, fmt.Errorf("%q is not a day", h.Day)
		}
		d.date = date
	}
	for row := range strings.Lines(string(rows)) {
		if err := d.read(strings.TrimSuffix(row, "\n"), h.Names); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (h head) check() error {
	if len(h.Names) > maxDayNames+1 {
		return errors.New("it holds too many names")
	}
	if len(h.Undated) > 8 {
		return errors.New("it holds no checksum where one should be")
	}
	for i, name := range h.Names {
		if len(name) > maxNameLength || slices.Contains(h.Names[:i], name) {
			return fmt.Errorf("name %d cannot be", i)
		}
	}
	return nil
}

// read enters one device's line.
func (d *day) read(row string, names []string) error {
	fields := strings.Split(row, " ")
	mac, err := parseMAC(fields[0])
	switch {
	case err != nil:
		return err
	case d.of[mac] != nil:
		return fmt.Errorf("%s stands in it twice", fields[0])
	case len(d.of) > maxDevices:
		return errors.New("it holds too many devices")
	case len(fields)%4 != 2 || len(fields) > 2+4*(maxNames+1):
		return fmt.Errorf("the line of %s has %d fields", fields[0], len(fields))
	}
	numbers := make([]int64, len(fields)-1)
	for i, f := range fields[1:] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil || n < 0 || n > most {
			return fmt.Errorf("%q in the line of %s is not a number that can be", f, fields[0])
		}
		numbers[i] = n
	}
	a := &account{}
	if numbers[0] > 0 {
		a.heavy = time.Unix(numbers[0], 0)
	}
	for n := numbers[1:]; len(n) > 0; n = n[4:] {
		if n[0] >= int64(len(names)) {
			return fmt.Errorf("the line of %s names name %d of %d", fields[0], n[0], len(names))
		}
		name := names[n[0]]
		if slices.ContainsFunc(a.lines, func(l line) bool { return l.name == name }) {
			return fmt.Errorf("the line of %s has a name twice", fields[0])
		}
		a.lines = append(a.lines, line{name, Figures{n[1], n[2], n[3]}})
		if name != "" {
			d.names[name] = name
		}
	}
	a.warned = a.total().Total() > Excessive // it was said before this start
	d.of[mac] = a
	return nil
}

func parseMAC(s string) (mac MAC, err error) {
	if s == nobody {
		return MAC{}, nil
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(mac) || MAC(b) == (MAC{}) || hex.EncodeToString(b) != s {
		return MAC{}, fmt.Errorf("%q is not a device", s)
	}
	return MAC(b), nil
}

// byDate orders days; the undated ones come last.
func byDate(x, y *day) int {
	return cmp.Or(cmp.Compare(truth(x.date == 0), truth(y.date == 0)), cmp.Compare(x.date, y.date))
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}
