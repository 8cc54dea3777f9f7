package egress

import (
	"bytes"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"chargegate/pkg/charger"
)

// The kernel's table of neighbours tells which device an address without a lease
// belongs to: a device that holds one must not have a second share beside it, under
// an address that it just took. Nobody has to be believed for that. The connection is
// there, so our answer has reached the caller, and it went to the MAC that stands in
// the table.
//
// It is read as a file: a question for one neighbour over netlink needs the
// interface, and all of them over netlink cost the same.
const neighbourTable = "/proc/net/arp"

const (
	// neighbourAge is how old the table may be that was read last. Chargers hold
	// leases, and nobody looks here for them; others cannot have it read more often.
	neighbourAge = 20 * time.Millisecond
	// maxNeighbourTable bounds what is read: 80 bytes for each neighbour, and the
	// kernel keeps some thousands at most.
	maxNeighbourTable = 1 << 20
)

// neighbours is the table as it was read last.
type neighbours struct {
	read func() ([]byte, error)

	mu sync.Mutex
	at time.Time
	of map[netip.Addr]charger.MAC
}

func newNeighbours() *neighbours {
	return &neighbours{read: func() ([]byte, error) {
		f, err := os.Open(neighbourTable)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, maxNeighbourTable))
	}}
}

// device returns whose packets come from an address, as far as the kernel knows.
func (n *neighbours) device(addr netip.Addr, now time.Time) (charger.MAC, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.of == nil || now.Sub(n.at) >= neighbourAge {
		n.at, n.of = now, map[netip.Addr]charger.MAC{}
		if table, err := n.read(); err == nil {
			n.of = parseNeighbours(table)
		}
	}
	mac, ok := n.of[addr]
	return mac, ok
}

// parseNeighbours reads proc_pid_net(5)'s arp: a head, and then for each neighbour
// its address, type, flags, MAC, mask and device. Those that did not answer have no
// MAC; an address that two interfaces know is nobody's.
func parseNeighbours(table []byte) map[netip.Addr]charger.MAC {
	of, twice := map[netip.Addr]charger.MAC{}, map[netip.Addr]bool{}
	_, rows, _ := bytes.Cut(table, []byte("\n"))
	for row := range strings.Lines(string(rows)) {
		fields := strings.Fields(row)
		if len(fields) != 6 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		mac, merr := charger.ParseMAC(fields[3])
		if err != nil || merr != nil {
			continue
		}
		if other, ok := of[addr]; ok && other != mac {
			twice[addr] = true
		}
		of[addr] = mac
	}
	for addr := range twice {
		delete(of, addr)
	}
	return of
}
