package ntprelay

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"chargegate/pkg/charger"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

func BenchmarkReply(b *testing.B) {
	q, st, stamp := request(), goodState(time.Now()), control(unix.SOL_SOCKET, unix.SCM_TIMESTAMPNS, uint64(time.Now().Unix()), 500_000_000)
	var out [48]byte
	b.ReportAllocs()
	for b.Loop() {
		now := time.Now()
		if _, ok := arrival(stamp); !ok || !reply(&out, q, now, now, -20, st) {
			b.Fatal("silence")
		}
	}
}

// A client that keeps 64 requests under way, each in its own right: what is
// measured are both sides of a conversation, and the kernel's part of it.
func BenchmarkOverLoopback(b *testing.B) {
	s := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Rate: 1_000_000}, charger.NewBook(nil, nil), nil)
	s.watch = func(context.Context) (reading, error) { return goodReading(time.Now()), nil }
	ctx, cancel := context.WithCancel(b.Context())
	if err := s.Listen(); err != nil {
		b.Fatal(err)
	}
	end := make(chan error, 1)
	at := net.UDPAddrFromAddrPort(s.Addrs()[0])
	go func() { end <- s.Serve(ctx) }()
	defer func() { cancel(); <-end }()
	for !s.Clock().Synchronised {
		time.Sleep(time.Millisecond)
	}
	c, err := net.DialUDP("udp4", nil, at)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	const window = 64
	p := ipv4.NewPacketConn(c)
	out, in := make([]ipv4.Message, window), make([]ipv4.Message, window)
	for i := range out {
		out[i].Buffers, in[i].Buffers = [][]byte{request()}, [][]byte{make([]byte, 64)}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; {
		n, err := p.WriteBatch(out, 0)
		if err != nil {
			b.Fatal(err)
		}
		for n > 0 {
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			got, err := p.ReadBatch(in, 0)
			if err != nil {
				b.Fatal(err)
			}
			n, done = n-got, done+got
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
}
