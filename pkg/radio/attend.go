package radio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/hostapd"
)

const (
	// checking is the time between two questions whether hostapd is there.
	checking = 15 * time.Second
	// redialling is the time between two attempts to reach one that is not.
	redialling = 5 * time.Second
)

// A speaker is a hostapd that tells us what happens.
type speaker interface {
	Ask(ctx context.Context, command string) (string, error)
	Attached(context.Context) error
	Listen(context.Context, time.Duration) error
	Close() error
}

var _ speaker = (*hostapd.Monitor)(nil)

// attach opens the way to the hostapd of an interface.
func attach(ctx context.Context, ifname string, hear func(hostapd.Event) bool) (speaker, error) {
	return hostapd.Attach(ctx, hostapd.Socket(ifname), hear)
}

// A voice is what was last known of the hostapd of one radio.
type voice struct {
	heard bool
	state string    // as its STATUS says: ENABLED while beacons are sent; empty: not heard
	why   string    // why it is not heard, in words
	since time.Time // when heard or not heard began
}

// A post is one radio's hostapd, as its goroutine sees it.
type post struct {
	voice    atomic.Pointer[voice]
	events   atomic.Uint64 // heard, of any kind
	attached atomic.Uint64 // times that a way was opened
}

// attend follows the hostapd of one radio until ctx is done: it may start late, be
// started anew, or hang.
func (s *Server) attend(ctx context.Context, i int) {
	p := &s.posts[i]
	for ctx.Err() == nil {
		err := s.follow(ctx, i)
		if ctx.Err() != nil {
			return
		}
		v := voice{why: fault(err), since: time.Now()}
		if was := p.voice.Load(); was != nil && !was.heard {
			v.since = was.since
		}
		p.voice.Store(&v)
		pause(ctx, redialling)
	}
}

// fault says why hostapd is not heard.
func fault(err error) string {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "hostapd does not run"
	case errors.Is(err, os.ErrPermission):
		return "its control socket is not ours to use"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "hostapd does not answer"
	}
	return err.Error()
}

// follow hears one hostapd until it is gone; its error says how that was noticed.
func (s *Server) follow(ctx context.Context, i int) error {
	m, err := s.attach(ctx, s.watches[i].net.Interface, func(e hostapd.Event) bool { return s.overhear(i, e) })
	if err != nil {
		return err
	}
	defer m.Close()
	p := &s.posts[i]
	p.attached.Add(1)
	s.tell(notice{matter: changed})
	for began := time.Now(); ; {
		answer, err := m.Ask(ctx, "STATUS")
		if err != nil {
			return err
		}
		p.voice.Store(&voice{heard: true, state: hostapd.Values(answer)["state"], since: began})
		if err := m.Listen(ctx, checking); err != nil {
			return err
		}
		if err := m.Attached(ctx); err != nil {
			return fmt.Errorf("hostapd was started anew: %w", err)
		}
	}
}

// overhear takes one event of hostapd; false where its state is worth a question now.
func (s *Server) overhear(i int, e hostapd.Event) bool {
	s.posts[i].events.Add(1)
	mac := charger.MAC(e.MAC)
	_, one := single(e.MAC[:])
	switch e.Name {
	case hostapd.Enabled, hostapd.Disabled, hostapd.Terminating:
		s.tell(notice{matter: changed})
		return false
	case hostapd.WrongPassphrase:
		if one {
			s.tell(notice{matter: mistyped, radio: i, mac: mac})
		}
	case hostapd.Connected:
		if one {
			s.tell(notice{matter: connected, radio: i, mac: mac})
		}
	case hostapd.Full:
		if one {
			s.tell(notice{matter: refused, radio: i, mac: mac, code: noRoom})
		}
	case hostapd.Deauthenticated:
		if code, ok := e.Reason(); ok && one {
			s.tell(notice{matter: resigned, radio: i, mac: mac, code: code})
		}
	}
	return true
}

// mute says in words why a radio that is an access point sends no beacons; empty while
// it does. Where hostapd is not heard the kernel's word counts, which names no channel
// for an access point that is not at work.
func (s *Server) mute(i, frequency int) string {
	switch v := s.posts[i].voice.Load(); {
	case v != nil && v.heard && v.state != "ENABLED":
		return fmt.Sprintf("hostapd's state is %s, not ENABLED", v.state)
	case v != nil && v.heard || frequency != 0:
		return ""
	case v == nil:
		return "hostapd is not heard yet"
	default:
		return v.why
	}
}
