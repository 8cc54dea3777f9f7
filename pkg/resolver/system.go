package resolver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// maxSystem bounds the servers that are taken from resolv.conf.
const maxSystem = 4

// A resolvConf follows the file that names the system's DNS servers: the uplink's
// DHCP client rewrites it as it likes. It is safe for concurrent use.
type resolvConf struct {
	path string

	mu      sync.Mutex
	changed time.Time
	size    int64
	known   []netip.AddrPort
}

// servers returns the servers that the file names now. It is read again only
// when it has changed.
func (r *resolvConf) servers() ([]netip.AddrPort, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	info, err := os.Stat(r.path)
	if err != nil {
		return nil, fmt.Errorf("following the system's DNS servers: %w", err)
	}
	if r.known != nil && info.ModTime().Equal(r.changed) && info.Size() == r.size {
		return r.known, nil
	}
	f, err := os.Open(r.path)
	if err != nil {
		return nil, fmt.Errorf("following the system's DNS servers: %w", err)
	}
	defer f.Close()
	known, err := parseResolvConf(f)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", r.path, err)
	}
	r.known, r.changed, r.size = known, info.ModTime(), info.Size()
	return known, nil
}

// parseResolvConf reads the nameserver lines (resolv.conf(5)).
func parseResolvConf(r io.Reader) ([]netip.AddrPort, error) {
	var known []netip.AddrPort
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(words[1]); err == nil && len(known) < maxSystem {
			known = append(known, netip.AddrPortFrom(addr.Unmap(), 53))
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(known) == 0 {
		return nil, errors.New("it names no server (the uplink may not be up yet)")
	}
	return known, nil
}
