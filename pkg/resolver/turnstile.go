package resolver

import (
	"errors"
	"net"
	"net/netip"
	"sync"
)

// A share lets only so many in at a time, in all and for each address. It is
// safe for concurrent use.
type share struct {
	total, each int

	mu     sync.Mutex
	inside map[netip.Addr]int
	all    int
}

func newShare(total, each int) *share {
	return &share{total: total, each: each, inside: map[netip.Addr]int{}}
}

func (s *share) enter(from netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= s.total || s.inside[from] >= s.each {
		return false
	}
	s.all++
	s.inside[from]++
	return true
}

func (s *share) leave(from netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.inside[from]--; s.inside[from] == 0 {
		delete(s.inside, from)
	}
}

// open returns how many are in.
func (s *share) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

// A turnstile lets only so many conversations in. One too many is reset at
// once, so that the one who opened it does not wait.
type turnstile struct {
	net.Listener
	*share
}

func newTurnstile(l net.Listener, total, each int) *turnstile {
	return &turnstile{Listener: l, share: newShare(total, each)}
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

// CloseWrite says that nothing more will be written.
func (v *visitor) CloseWrite() error {
	if c, ok := v.Conn.(*net.TCPConn); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
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
