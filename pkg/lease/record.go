package lease

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"time"
)

// What a record says.
const (
	opBind    = "bind"    // the MAC has the address
	opRelease = "release" // the MAC gave it back: read, but of no consequence, and not written
	opDecline = "decline" // the MAC found it in use
	opEnd     = "end"     // the snapshot is whole; Count records came before
)

// A record is one change. Records say what is, not what to do: replaying one
// twice, or replaying changes over a state that already has them, ends in the
// same state.
type record struct {
	Op      string
	Network string
	HW      [6]byte
	Addr    netip.Addr
	Known   bool
	Host    string
	Term    time.Duration
	Count   int // of opEnd
}

// wire is a record as it stands in the file.
type wire struct {
	Op      string     `json:"op"`
	Network string     `json:"net,omitempty"`
	MAC     string     `json:"mac,omitempty"`
	Addr    netip.Addr `json:"addr,omitzero"`
	Known   bool       `json:"known,omitempty"`
	Host    string     `json:"host,omitempty"`
	Seconds int64      `json:"term,omitempty"`
	Count   int        `json:"count,omitempty"`
}

// A frame is one line: eight digits of checksum, four of length, the record as
// JSON. It can be read by people, and a reader that met damage finds the next
// one by its line feed, which JSON never holds.
const (
	frameHead = len("01234567 0123 ")
	maxRecord = 4096
)

func checksum(payload []byte) uint32 {
	return crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli))
}

// encode returns the record's line.
func (r record) encode() []byte {
	w := wire{Op: r.Op, Network: r.Network, Addr: r.Addr, Known: r.Known, Host: r.Host,
		Seconds: int64(r.Term / time.Second), Count: r.Count}
	if r.Op != opEnd {
		w.MAC = net.HardwareAddr(r.HW[:]).String()
	}
	payload, err := json.Marshal(w)
	if err != nil { // strings, numbers and an address always marshal
		panic(err)
	}
	return frame(payload)
}

// frame puts length and checksum before a payload.
func frame(payload []byte) []byte {
	return fmt.Appendf(nil, "%08x %04x %s\n", checksum(payload), len(payload), payload)
}

// decode reads one line without its line feed. Whatever is not exactly a line
// that encode writes is a fault.
func decode(line []byte) (record, error) {
	if len(line) < frameHead || len(line) > frameHead+maxRecord {
		return record{}, fmt.Errorf("%d bytes are not a record", len(line))
	}
	payload := line[frameHead:]
	if !bytes.Equal(line[:frameHead], frame(payload)[:frameHead]) {
		return record{}, fmt.Errorf("length or checksum differ")
	}
	var w wire
	if err := json.Unmarshal(payload, &w); err != nil {
		return record{}, err
	}
	return w.record()
}

// record checks what the line says. A valid checksum is no proof: the file may
// come from a later version.
func (w wire) record() (record, error) {
	r := record{Op: w.Op, Network: w.Network, Addr: w.Addr, Known: w.Known, Host: cut(w.Host), Count: w.Count}
	switch w.Op {
	case opEnd:
		return r, nil
	case opBind:
		if w.Seconds <= 0 || w.Seconds > int64(MaxTerm/time.Second) {
			return record{}, fmt.Errorf("a lease of %d s", w.Seconds)
		}
		r.Term = time.Duration(w.Seconds) * time.Second
	case opRelease, opDecline:
	default:
		return record{}, fmt.Errorf("%q is not a change known to this version", w.Op)
	}
	hw, err := net.ParseMAC(w.MAC)
	if err != nil || len(hw) != len(r.HW) {
		return record{}, fmt.Errorf("%q is not a MAC address", w.MAC)
	}
	r.HW = [6]byte(hw)
	if !w.Addr.Is4() {
		return record{}, fmt.Errorf("%s is not an IPv4 address", w.Addr)
	}
	return r, nil
}

// bindRecord writes down a slot's binding. A term below a second, which only
// tests use, is remembered as one.
func bindRecord(s *slot) record {
	return record{Op: opBind, Network: s.pool.Network, HW: s.owner, Addr: s.addr, Known: s.known,
		Host: s.host, Term: max(s.term, time.Second)}
}

// A reading is what was found in one file.
type reading struct {
	records []record
	// good is where the last good record ends. What follows is a torn tail: the
	// power went while it was written.
	good int
	// damaged counts the lines before good that cannot be read: no power cut
	// leaves those.
	damaged int
	fault   error // the first of them
}

// read takes every good record out of a file. Records after damage are used
// too: each is proved by its own checksum, and forgetting one would mean to give
// an address away that somebody uses.
func read(data []byte) reading {
	var r reading
	bad := 0
	var why error
	for at := 0; at < len(data); {
		end := bytes.IndexByte(data[at:], '\n')
		if end < 0 {
			break
		}
		rec, err := decode(data[at : at+end])
		if err != nil {
			bad++
			if why == nil {
				why = fmt.Errorf("at byte %d: %w", at, err)
			}
			at += end + 1
			continue
		}
		at += end + 1
		r.records = append(r.records, rec)
		r.good = at
		r.damaged, r.fault = bad, why
	}
	return r
}

// readSnapshot is read for a file that must be whole, up to its end record.
func readSnapshot(data []byte) (reading, error) {
	r := read(data)
	n := len(r.records)
	switch {
	case r.damaged > 0:
		return r, r.fault
	case n == 0 || r.records[n-1].Op != opEnd:
		return r, fmt.Errorf("it ends after %d records, before its end", n)
	case r.records[n-1].Count != n-1:
		return r, fmt.Errorf("it holds %d records and should hold %d", n-1, r.records[n-1].Count)
	case r.good != len(data):
		return r, fmt.Errorf("%d bytes stand after its end", len(data)-r.good)
	}
	return r, nil
}
