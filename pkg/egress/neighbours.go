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
// seems to belong to. One device should not take all places of those who hold none,
// nor as many again as it has under its lease, by going from one free address to the
// next.
//
// It is a hint and no proof. Whoever sends one ARP packet with another's MAC after
// the SYN has that MAC stand here when the call is accepted. So what it says may
// refuse a call, and is never charged to the device that it names, nor told of it.
//
// It is read as a file: a question for one neighbour over netlink needs the
// interface, and all of them over netlink cost the same.
const neighbourTable = "/proc/self/net/arp" // self: the unit hides what is not a process (ProcSubset=)

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

// table returns whose packets seem to come from each address. It is not to be changed.
func (n *neighbours) table(now time.Time) map[netip.Addr]charger.MAC {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.of == nil || now.Sub(n.at) >= neighbourAge {
		n.at, n.of = now, map[netip.Addr]charger.MAC{}
		if table, err := n.read(); err == nil {
			n.of = parseNeighbours(table)
		}
	}
	return n.of
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
