package datagram

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

// pair opens two sockets on loopback that are closed with the test.
func pair(t *testing.T) (server, client *net.UDPConn) {
	t.Helper()
	open := func() *net.UDPConn {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(10 * time.Second))
		return c
	}
	return open(), open()
}

func TestWhatWaitsIsReadAtOnceAndAnsweredToItsSender(t *testing.T) {
	server, client := pair(t)
	_, other := pair(t)
	to := server.LocalAddr()
	for i := range 10 {
		from := client
		if i%2 == 1 {
			from = other
		}
		if _, err := from.WriteTo(fmt.Appendf(nil, "question %d", i), to); err != nil {
			t.Fatal(err)
		}
	}
	b := New(server, 8, 64, 0)
	for read, want := 0, 8; read < 10; want = 2 {
		n, err := b.Read()
		if err != nil || n != want {
			t.Fatalf("read %d at once, %v, want %d", n, err, want)
		}
		for i := range n {
			data, _, from, whole := b.Datagram(i)
			asker := []*net.UDPConn{client, other}[(read+i)%2]
			if want := fmt.Sprintf("question %d", read+i); string(data) != want || !whole || from != addrOf(asker) {
				t.Errorf("%q from %s, whole %v, want %q from %s", data, from, whole, want, addrOf(asker))
			}
			if (read+i)%3 == 0 {
				b.Answer(i, bytes.Replace(data, []byte("question"), []byte("answer"), 1))
			}
		}
		if unsent := b.Flush(); unsent != 0 {
			t.Errorf("%d answers were not sent", unsent)
		}
		read += n
	}
	for i := 0; i < 10; i += 3 {
		in := make([]byte, 64)
		n, err := []*net.UDPConn{client, other}[i%2].Read(in)
		if want := fmt.Sprintf("answer %d", i); err != nil || string(in[:n]) != want {
			t.Errorf("got %q, %v, want %q", in[:n], err, want)
		}
	}
}

func TestLongDatagramIsSaidToBeCutShortAndSpoilsNoOther(t *testing.T) {
	server, client := pair(t)
	b := New(server, 4, 16, 0)
	for _, size := range []int{40, 16, 0, 3} {
		client.WriteTo(make([]byte, size), server.LocalAddr())
	}
	n, err := b.Read()
	if err != nil || n != 4 {
		t.Fatalf("read %d, %v", n, err)
	}
	for i, want := range []int{16, 16, 0, 3} {
		if data, _, _, whole := b.Datagram(i); len(data) != want || whole != (i != 0) {
			t.Errorf("datagram %d has %d bytes, whole %v", i, len(data), whole)
		}
	}
}

func TestAnswerThatCannotBeSentKeepsNoOtherBack(t *testing.T) {
	server, client := pair(t)
	b := New(server, 4, 16, 0)
	for range 3 {
		client.WriteTo([]byte("question"), server.LocalAddr())
	}
	if n, err := b.Read(); n != 3 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	b.Answer(0, []byte("first"))
	b.Answer(1, make([]byte, 70_000)) // longer than a datagram can be
	b.Answer(2, []byte("third"))
	if unsent := b.Flush(); unsent != 1 {
		t.Errorf("%d answers were not sent, want 1", unsent)
	}
	for _, want := range []string{"first", "third"} {
		in := make([]byte, 16)
		if n, err := client.Read(in); err != nil || string(in[:n]) != want {
			t.Errorf("got %q, %v, want %q", in[:n], err, want)
		}
	}
}

func TestClosedSocketEndsTheReading(t *testing.T) {
	server, _ := pair(t)
	b := New(server, 4, 16, 0)
	server.Close()
	if _, err := b.Read(); err == nil {
		t.Error("reading a closed socket is no error")
	}
}

func addrOf(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

func TestSocketOfBothFamiliesTellsWhoSentIt(t *testing.T) {
	server, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Skip("no IPv6 here:", err)
	}
	defer server.Close()
	client, err := net.DialUDP("udp", nil, server.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	client.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := client.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	b := New(server, 1, 64, 0)
	if n, err := b.Read(); n != 1 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	data, _, from, _ := b.Datagram(0)
	if from != addrOf(client) {
		t.Errorf("sent by %s, want %s", from, addrOf(client))
	}
	b.Answer(0, append(data[:0], "answer in the question's place"...))
	b.Flush()
	in := make([]byte, 64)
	if n, err := client.Read(in); err != nil || string(in[:n]) != "answer in the question's place" {
		t.Errorf("got %q, %v", in[:n], err)
	}
}

func TestReplyLeavesAtOnce(t *testing.T) {
	server, client := pair(t)
	b := New(server, 4, 64, 0)
	for range 3 {
		client.WriteTo([]byte("question"), server.LocalAddr())
	}
	if n, err := b.Read(); n != 3 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	b.Answer(0, []byte("answer that waits"))
	if err := b.Reply(2, []byte("reply")); err != nil {
		t.Error(err)
	}
	if err := b.Reply(1, make([]byte, 70_000)); err == nil { // longer than a datagram can be
		t.Error("what cannot be sent is no error")
	}
	b.Flush()
	for _, want := range []string{"reply", "answer that waits"} {
		in := make([]byte, 64)
		if n, err := client.Read(in); err != nil || string(in[:n]) != want {
			t.Errorf("got %q, %v, want %q", in[:n], err, want)
		}
	}
}

func TestClosedSocketTakesNoAnswer(t *testing.T) {
	server, client := pair(t)
	client.WriteTo([]byte("question"), server.LocalAddr())
	b := New(server, 4, 16, 0)
	if n, err := b.Read(); n != 1 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	server.Close()
	b.Answer(0, []byte("answer"))
	if unsent := b.Flush(); unsent != 1 {
		t.Errorf("%d answers were not sent, want 1", unsent)
	}
	if err := b.Reply(0, []byte("reply")); err == nil {
		t.Error("a closed socket took a reply")
	}
}

func TestNothingIsAllocatedWhileItWorks(t *testing.T) {
	if info, ok := debug.ReadBuildInfo(); ok && strings.Contains(fmt.Sprint(info.Settings), "checkptr=2") {
		t.Skip("this check of pointers puts on the heap what they point to")
	}
	server, client := pair(t)
	b := New(server, 4, 64, 32)
	to, question, in := addrOf(server), []byte("question"), make([]byte, 64)
	turn := func() {
		client.WriteToUDPAddrPort(question, to)
		n, err := b.Read()
		if n != 1 || err != nil {
			t.Fatalf("read %d, %v", n, err)
		}
		data, _, _, _ := b.Datagram(0)
		b.Answer(0, data)
		b.Flush()
		b.Reply(0, data)
		for range 2 {
			client.ReadFromUDPAddrPort(in)
		}
	}
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("%v allocations for each datagram, want none", n)
	}
}

func BenchmarkTurn(b *testing.B) {
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	for _, many := range []int{1, 32} {
		b.Run(fmt.Sprint(many), func(b *testing.B) {
			batch := New(server, many, 1232, 0)
			question := make([]byte, 60)
			b.ReportAllocs()
			for left := b.N; left > 0; {
				for range min(many, left) {
					server.WriteToUDPAddrPort(question, addrOf(server))
				}
				n, err := batch.Read()
				if err != nil {
					b.Fatal(err)
				}
				left -= n
			}
		})
	}
}
