package lease_test

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"chargegate/pkg/lease"
)

// BenchmarkGrant makes new bindings, each on disk before the next step of its
// client, for a number of clients at once.
func BenchmarkGrant(b *testing.B) {
	const room = 60_000 // new bindings per table
	p := pool(b, "P1", "10.0.0.1/14", room)
	for _, clients := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			var syncs uint64
			for left := b.N; left > 0; left -= room {
				b.StopTimer()
				table := open(b, b.TempDir(), p)
				b.StartTimer()
				grantMany(b, table, min(left, room), clients)
				b.StopTimer()
				syncs += table.Stats().Syncs
				table.Close()
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "bindings/s")
			b.ReportMetric(float64(syncs)/float64(b.N), "syncs/binding")
		})
	}
}

func grantMany(b *testing.B, table *lease.Table, n, clients int) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				c := claim("P1", i, true)
				addr, err := table.Offer("P1", c.HW, netip.Addr{}, true, start)
				if err == nil {
					_, err = table.Grant(c, addr, start)
				}
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkRenew renews known bindings: no disk.
func BenchmarkRenew(b *testing.B) {
	table := open(b, b.TempDir(), pool(b, "P1", "10.83.0.1/22", 250))
	var addrs []netip.Addr
	for i := range 250 {
		addrs = append(addrs, join(b, table, claim("P1", i, true), start))
	}
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		if _, err := table.Grant(claim("P1", i%250, true), addrs[i%250], start); err != nil {
			b.Fatal(err)
		}
	}
}
