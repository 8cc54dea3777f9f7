package resolver

import (
	"net"
	"net/netip"
	"sync"
)

// A turnstile lets only so many conversations in, in all and for each address.
// One too many is reset at once, so that the one who opened it does not wait.
type turnstile struct {
	net.Listener
	total, each int

	mu     sync.Mutex
	inside map[netip.Addr]int
	all    int
}

func newTurnstile(l net.Listener, total, each int) *turnstile {
	return &turnstile{Listener: l, total: total, each: each, inside: map[netip.Addr]int{}}
}

// Accept returns the next conversation that is let in.
func (t *turnstile) Accept() (net.Conn, error) {
	for {
		c, err := t.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := addrOf(c.RemoteAddr())
		if t.enter(from) {
			return &visitor{Conn: c, leave: sync.OnceFunc(func() { t.leave(from) })}, nil
		}
		if tc, ok := c.(*net.TCPConn); ok {
			_ = tc.SetLinger(0) // a reset instead of a polite end
		}
		c.Close()
	}
}

func (t *turnstile) enter(from netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all >= t.total || t.inside[from] >= t.each {
		return false
	}
	t.all++
	t.inside[from]++
	return true
}

func (t *turnstile) leave(from netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all--
	if t.inside[from]--; t.inside[from] == 0 {
		delete(t.inside, from)
	}
}

// A visitor tells the turnstile when it leaves.
type visitor struct {
	net.Conn
	leave func()
}

// Close ends the conversation.
func (v *visitor) Close() error {
	v.leave()
	return v.Conn.Close()
}

// addrOf returns the address of either transport's far end.
func addrOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
