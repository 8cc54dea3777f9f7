package resolver

import (
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// quickServer answers every question over UDP with one address, from a thread of
// its own with as little work as can be.
func quickServer(t testing.TB) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan struct{})
	go func() {
		defer close(end)
		in := make([]byte, 512)
		for {
			n, from, err := unix.Recvfrom(fd, in, 0)
			if err != nil || n < messageHeader {
				return
			}
			at := messageHeader
			for in[at] != 0 {
				at += int(in[at]) + 1
			}
			out := append(in[:at+5:at+5], 0xc0, messageHeader, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1)
			out[2], out[3], out[7], out[11] = out[2]|bitResponse, 0x80, 1, 0
			if unix.Sendto(fd, out, 0, from) != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR) // wakes the reader
		<-end
		unix.Close(fd)
	})
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(sa.(*unix.SockaddrInet4).Port))
}

// The cost of a question that is not remembered, with a server that needs no time.
func BenchmarkMiss(b *testing.B) {
	f, _ := forwardTo(nil, quickServer(b))
	defer f.shut()
	var n atomic.Uint64
	var before, after unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
	b.ReportAllocs()
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			name := "n" + strconv.FormatUint(n.Add(1)%1000, 10) + ".site.example."
			if _, err := f.ask(b.Context(), name); err != nil {
				b.Error(err)
				return
			}
		}
	})
	_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(b.N), "cpu-ns/op")
}
