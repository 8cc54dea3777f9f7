package egress

import (
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"chargegate/pkg/policy"
)

// BenchmarkBulk is a download through the room, and beside it the same without
// it, in the same run.
func BenchmarkBulk(b *testing.B) {
	const size = 64 << 20
	chunk := make([]byte, 1<<20)
	source := func(conn *net.TCPConn) {
		defer conn.Close()
		if _, err := io.ReadFull(conn, make([]byte, 2)); err != nil {
			return
		}
		for range size / len(chunk) {
			if _, err := conn.Write(chunk); err != nil {
				return
			}
		}
	}
	back := newBackend(b, "127.0.0.1:0", source)
	h := newHouse(b, 443, func(_ *Config, r *[]policy.Rule) {
		*r = append(*r, policy.Rule{Name: ocppName, Ports: []uint16{back.port}, Plain: true, Reason: "test"})
	}).open()
	h.to.Store(new(netip.AddrPortFrom(asked, back.port)))
	h.names.remember(asked, ocppName)
	for _, way := range []struct{ name, addr string }{{"direct", back.l.Addr().String()}, {"through", h.addr}} {
		b.Run(way.name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				conn, err := net.Dial("tcp4", way.addr)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := conn.Write([]byte{0, 0}); err != nil {
					b.Fatal(err)
				}
				n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, chunk)
				conn.Close()
				if err != nil || n != size {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// BenchmarkConversation is a whole short one: connect, hello, first byte back,
// end. The room has a place for each.
func BenchmarkConversation(b *testing.B) {
	hello := helloTo(b, apiName)
	answer := func(conn *net.TCPConn) {
		defer conn.Close()
		if _, err := io.ReadFull(conn, make([]byte, len(hello))); err == nil {
			_, _ = conn.Write([]byte{22})
			_, _ = conn.Read(make([]byte, 1))
		}
	}
	back := newBackend(b, "127.0.0.1:0", answer)
	h := newHouse(b, back.port, func(c *Config, _ *[]policy.Rule) { c.PerCharger = 512 }).open()
	for _, way := range []struct{ name, addr string }{{"direct", back.l.Addr().String()}, {"through", h.addr}} {
		b.Run(way.name, func(b *testing.B) {
			var failed atomic.Int64
			b.SetParallelism(8)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				one := make([]byte, 1)
				for pb.Next() {
					conn, err := net.Dial("tcp4", way.addr)
					if err != nil {
						failed.Add(1)
						continue
					}
					if _, err := conn.Write(hello); err != nil {
						failed.Add(1)
					} else if _, err := io.ReadFull(conn, one); err != nil {
						failed.Add(1)
					}
					reset(conn.(*net.TCPConn))
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "conversations/s")
			if n := failed.Load(); n > 0 {
				b.Errorf("%d failed", n)
			}
		})
	}
}
