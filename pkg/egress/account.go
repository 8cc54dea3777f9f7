package egress

import (
	"net/netip"
	"time"

	"chargegate/pkg/charger"
)

// Accounts is told what devices moved, by name (Z-14). A *volume.Book is one.
type Accounts interface {
	// Moved enters bytes and conversations of a device with an allowed name since
	// the last call. The zero MAC is everybody whose device is not known.
	Moved(mac [6]byte, name string, up, down int64, sessions int, now time.Time)
}

// KeepAccounts has what moves entered in a, from now on. It is called before
// Listen.
func (s *Server) KeepAccounts(a Accounts) { s.accounts = a }

// enter accounts for what a conversation moved.
func (s *Server) enter(c *conversation, up, down int64, sessions int, now time.Time) {
	if s.accounts == nil {
		return
	}
	c.mu.Lock()
	if !c.payer.settled {
		mac := s.payerOf(c.caller, c.share.mac)
		c.payer = payer{mac, c.share.leased() || mac != (charger.MAC{})}
	}
	mac := c.payer.mac
	c.mu.Unlock()
	s.accounts.Moved(mac, c.name, up, down, sessions, now)
}

// Saving is to be called right before the accounts are written, and what it returns
// once they are: the ledger notes what they hold of each conversation, so that the
// next process enters what a crash cost them. What moves in between may be entered
// twice then, a moment's worth.
func (s *Server) Saving() (saved func()) {
	type holding struct {
		kept     *kept
		up, down int64
	}
	s.mu.Lock()
	held := make([]holding, 0, len(s.open))
	for c := range s.open {
		c.mu.Lock()
		held = append(held, holding{c.kept, c.meter.up, c.meter.down})
		c.mu.Unlock()
	}
	s.mu.Unlock()
	return func() {
		for _, h := range held {
			s.keeper.saved(h.kept, h.up, h.down)
		}
	}
}

// enterUnsaved accounts for what the process before this one had not written of a
// conversation that goes on.
func (s *Server) enterUnsaved(c *conversation, had *savedCounts) {
	up, down, sessions := c.meter.up-had.up.Load(), c.meter.down-had.down.Load(), 1-int(had.sessions.Load())
	if up > 0 || down > 0 || sessions > 0 {
		s.enter(c, max(0, up), max(0, down), max(0, sessions), time.Now())
	}
}

// A payer is on whose account a conversation goes. Once settled that stays.
type payer struct {
	mac     charger.MAC
	settled bool
}

// payerOf tells on whose account a caller's bytes go: the device's that holds the
// lease. Who uses a charger's MAC on another network is not that charger, and has
// no account of his own.
func (s *Server) payerOf(caller netip.Addr, mac charger.MAC) charger.MAC {
	at, held := s.book.At(caller)
	if mac == (charger.MAC{}) {
		mac = at // it may hold a lease by now
	}
	if _, known := s.book.Known(mac); known && held && at == mac && !s.book.Named(caller) {
		return charger.MAC{}
	}
	return mac
}
