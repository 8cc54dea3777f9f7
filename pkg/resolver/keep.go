package resolver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// The last good answers of allowed names are on disk, for a garage whose power
// comes back before its uplink (F-1). The file is small, written whole and seldom:
//
//	chargegate-names 1 0123abcd
//	{"name":"zapcloud.azure-devices.net.","chain":["gw.example."],"addrs":["192.0.2.1"]}
//
// with a checksum over all that follows the first line. It holds no times: this box
// does not know, when it boots, how long it was off (F-12). Whatever is read counts
// as old from the start, and lasts 72 h from then.
const (
	fileMagic   = "chargegate-names"
	fileVersion = 1
	// maxFile bounds the file, and maxKeptOthers the names in it that are not
	// themselves on the list: those that were used last.
	maxFile       = 256 << 10
	maxKeptOthers = 64
	damagedSuffix = ".damaged"
	tmpSuffix     = ".tmp"
)

// An answer has changed when it shares no address with the one in the file: as
// long as one is the same, the file leads to the hub. A hub whose address is
// another one each time would have the file written every ten minutes for ten
// years; therefore the pause doubles while changes keep coming, up to keepMost,
// and a day without any brings it back. A name of the list that the file does not
// have at all never waits longer than keepEvery; that happens once.
//
// So a hub that moves is on disk after ten minutes, and one that always moves is
// written four times a day: 15,000 writes of a few blocks in ten years, which an
// SD card does not feel.
const (
	keepEvery = 10 * time.Minute
	keepMost  = 6 * time.Hour
	keepQuiet = 24 * time.Hour
	// keepLook is the time between two looks at what is to be written; the first
	// file of all waits for one.
	keepLook = time.Minute
)

// A line is what the file says of one name.
type line struct {
	Name  string       `json:"name"` // a key
	Chain []string     `json:"chain,omitempty"`
	Addrs []netip.Addr `json:"addrs"`
}

// lineOf is the line for an answer with addresses.
func lineOf(name string, a answer) line {
	l := line{Name: name, Addrs: a.addrs}
	for _, rr := range a.records {
		if c, ok := rr.(*dns.CNAME); ok {
			l.Chain = append(l.Chain, c.Target)
		}
	}
	return l
}

// answer makes the answer that the line stands for, held to the same rules as one
// from an upstream.
func (l line) answer(usable func(netip.Addr) bool) (answer, error) {
	if _, ok := dns.IsDomainName(l.Name); !ok || key(l.Name) != l.Name {
		return answer{}, fmt.Errorf("%w: %q is not a name", errAnswer, l.Name)
	}
	head := func(name string, rrtype uint16) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: staleTTL}
	}
	m, at := new(dns.Msg), l.Name
	for _, next := range l.Chain {
		if _, ok := dns.IsDomainName(next); !ok || !dns.IsFqdn(next) {
			return answer{}, fmt.Errorf("%w: %q is not a name", errAnswer, next)
		}
		m.Answer = append(m.Answer, &dns.CNAME{Hdr: head(at, dns.TypeCNAME), Target: next})
		at = next
	}
	for _, addr := range l.Addrs {
		if !addr.Is4() {
			return answer{}, fmt.Errorf("%w: %s is not an IPv4 address", errAnswer, addr)
		}
		m.Answer = append(m.Answer, &dns.A{Hdr: head(at, dns.TypeA), A: addr.AsSlice()})
	}
	a, err := reduce(l.Name, m, usable)
	if err == nil && len(a.addrs) == 0 {
		err = fmt.Errorf("%w: %s has no address", errAnswer, plain(l.Name))
	}
	return a, err
}

// confirms reports whether two lines of a name lead to the same place.
func (l line) confirms(other line) bool {
	return slices.ContainsFunc(l.Addrs, func(a netip.Addr) bool { return slices.Contains(other.Addrs, a) })
}

// encode writes the lines down, the first ones if there is no room for all, and
// returns them.
func encode(lines []line) (data []byte, written []line) {
	const head = 64 // at most
	var body bytes.Buffer
	for i, l := range lines {
		b, err := json.Marshal(l)
		if err != nil || body.Len()+len(b) >= maxFile-head {
			lines = lines[:i]
			break
		}
		body.Write(append(b, '\n'))
	}
	data = fmt.Appendf(nil, "%s %d %08x\n", fileMagic, fileVersion, checksum(body.Bytes()))
	return append(data, body.Bytes()...), lines
}

// decode reads what encode wrote. Anything else is an error that says what is
// wrong, and nothing is read of it.
func decode(data []byte) ([]line, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("it is larger than %d KiB", maxFile>>10)
	}
	head, body, _ := bytes.Cut(data, []byte("\n"))
	var version int
	var sum uint32
	if n, _ := fmt.Sscanf(string(head), fileMagic+" %d %x", &version, &sum); n < 1 {
		return nil, errors.New("it is not a file of names")
	} else if version != fileVersion {
		return nil, fmt.Errorf("its version is %d, and %d can be read", version, fileVersion)
	} else if n < 2 || sum != checksum(body) {
		return nil, errors.New("its checksum is wrong")
	}
	var lines []line
	for _, b := range bytes.Split(bytes.TrimSuffix(body, []byte("\n")), []byte("\n")) {
		if len(b) == 0 {
			continue
		}
		var l line
		if err := json.Unmarshal(b, &l); err != nil {
			return nil, fmt.Errorf("a line cannot be read: %w", err)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// A keeper looks after the file. It belongs to one goroutine at a time.
type keeper struct {
	path  string // empty: there is none
	read  bool
	known map[string]line // what the file holds
	// last is when it was written, or read: a daemon that is started again and again
	// writes no oftener. Zero: there was none.
	last  time.Time
	pause time.Duration
	// trouble says that it could not be written the last time.
	trouble bool
}

func newKeeper(path string) *keeper {
	return &keeper{path: path, known: map[string]line{}, pause: keepEvery}
}

// due reports whether the file is to be written for what is remembered now, the
// names of which are on the list themselves where exact says so, and gone says
// which names are known to have no address any more.
func (k *keeper) due(now time.Time, lines []line, exact, gone map[string]bool) bool {
	since := now.Sub(k.last)
	if k.last.IsZero() {
		return len(lines) > 0
	}
	if since < keepEvery {
		return false
	}
	for _, l := range lines {
		was, ok := k.known[l.Name]
		if !ok && exact[l.Name] || !l.confirms(was) && since >= k.pause {
			return true
		}
	}
	for name := range k.known {
		if gone[name] && since >= k.pause {
			return true
		}
	}
	return false
}

// wrote notes that the file holds these lines.
func (k *keeper) wrote(now time.Time, lines []line) {
	if !k.last.IsZero() && now.Sub(k.last) < keepQuiet {
		k.pause = min(2*k.pause, keepMost)
	} else {
		k.pause = keepEvery
	}
	k.last = now
	k.known = map[string]line{}
	for _, l := range lines {
		k.known[l.Name] = l
	}
}

// load returns what the file holds; nothing and no error if there is none. A file
// that cannot be understood is set aside for whoever wants to know what happened.
func (k *keeper) load() ([]line, error) {
	data, err := readFile(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	lines, err := decode(data)
	if err != nil {
		return nil, errors.Join(err, os.Rename(k.path, k.path+damagedSuffix))
	}
	return lines, nil
}

// readFile reads a file as far as it is worth reading: one byte too many shows
// that it is too large.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe in its place holds nobody up
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is not a file", path))
	}
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// replaceFile writes a file so that a power cut leaves the old one or the new one.
func replaceFile(path string, data []byte) error {
	tmp := path + tmpSuffix
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// recall reads the file once, at the start. Only names that are still allowed
// are taken, and none that is known better already.
func (s *Server) recall() {
	k := s.keeper
	if k.path == "" || k.read {
		return
	}
	k.read = true
	lines, err := k.load()
	if err != nil {
		s.log.Say(event.ResolverFileUnread, event.F("FILE", k.path), event.Err(err))
		return
	}
	now, count := time.Now(), 0
	for _, l := range lines {
		k.known[l.Name] = l
		a, err := l.answer(s.forward.usable)
		if err != nil || policy.IsTime(l.Name) || strings.Contains(l.Name, `\`) || !s.list.Holds(l.Name) {
			continue
		}
		if s.memory.recall(l.Name, a, now) {
			s.given.note(l.Name, s.memory.isExact(l.Name), a.addrs, now)
			count++
		}
	}
	if len(lines) > 0 {
		k.last = now
		s.log.Say(event.ResolverRecalled, event.F("COUNT", count))
	}
}

// recall remembers an answer from before the start: an old one already, which is
// asked for anew at the next occasion.
func (m *memory) recall(name string, a answer, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, _ := m.kept.get(name)
	if e != nil && (e.good != nil || !e.tried.IsZero()) {
		return false
	}
	k := &kept{answer: a, since: now.Add(-a.ttl)}
	m.kept.put(name, &entry{good: k, last: k})
	return true
}

// keep writes the file when it is due, until ctx is done, and once more then.
func (s *Server) keep(ctx context.Context) {
	if s.keeper.path == "" {
		return
	}
	look := time.NewTicker(keepLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			s.write(time.Now(), true)
			return
		case <-look.C:
			s.write(time.Now(), false)
		}
	}
}

// write writes the file if it is due. At the end it does not wait out the longer
// pauses: nobody knows when the next chance comes.
func (s *Server) write(now time.Time, end bool) {
	k := s.keeper
	lines, exact, gone := s.memory.lines(now)
	lines = slices.DeleteFunc(lines, func(l line) bool { return !s.list.Holds(l.Name) })
	if end {
		k.pause = keepEvery
	}
	if !k.due(now, lines, exact, gone) {
		return
	}
	data, lines := encode(lines)
	err := replaceFile(k.path, data)
	switch {
	case err != nil:
		k.last = now
		if !k.trouble {
			s.log.Say(event.ResolverFileUnwritten, event.F("FILE", k.path), event.Err(err))
		}
	case k.trouble:
		s.log.Say(event.ResolverFileWritten, event.F("FILE", k.path))
	}
	if k.trouble = err != nil; !k.trouble {
		k.wrote(now, lines)
	}
}

// lines returns what is worth being on disk: every answer with addresses that can
// still be given, of the names of the list and then of some others, each in
// alphabetical order. exact are the names of the list among them; gone are the
// names that an upstream has said have none. A name of the list stays for as long
// as its last addresses would last without that: nothing that a server says takes
// the hub from the disk at once.
func (m *memory) lines(now time.Time) (lines []line, exact, gone map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	exact, gone = map[string]bool{}, map[string]bool{}
	var others []line
	for name, e := range m.kept.all() {
		has := e.last != nil && now.Sub(e.last.since) < e.last.ttl+staleFor
		switch {
		case e.exact && has:
			exact[name] = true
			lines = append(lines, lineOf(name, e.last.answer))
		case e.good != nil && len(e.good.addrs) == 0:
			gone[name] = true
		case has && len(others) < maxKeptOthers:
			others = append(others, lineOf(name, e.last.answer))
		}
	}
	byName := func(a, b line) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(lines, byName)
	slices.SortFunc(others, byName)
	return append(lines, others...), exact, gone
}
