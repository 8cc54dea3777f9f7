package radio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Waits before the kernel is listened to again: doubled from the least to the most.
const (
	leastWait = time.Second
	mostWait  = time.Minute
)

// earSpace is the socket's buffer asked for, in bytes: several thousand messages. The
// kernel grants what net.core.rmem_max allows.
const earSpace = 1 << 20

// hearKernel hands on what nl80211 tells, until ctx is done. A socket that fails is
// opened anew, after a while; what was lost meanwhile the next look finds.
func (s *Server) hearKernel(ctx context.Context) {
	for wait := leastWait; ctx.Err() == nil; wait = min(2*wait, mostWait) {
		began := time.Now()
		s.listen(ctx, s.tell)
		if ctx.Err() != nil {
			return
		}
		s.deaf.Add(1)
		if time.Since(began) > mostWait {
			wait = leastWait
		}
		pause(ctx, wait)
	}
}

// pause waits, or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// errReloaded says that the wireless drivers were loaded anew: nl80211 has another
// number then, and the old socket hears nothing more, without an error.
var errReloaded = errors.New("nl80211 was loaded anew")

// listen hears nl80211 on one socket until it fails or ctx is done.
func listen(ctx context.Context, tell func(notice)) error {
	c, err := genetlink.Dial(nil)
	if err != nil {
		return fmt.Errorf("listening to nl80211: %w", err)
	}
	defer c.Close()
	control, err := join(c, "nlctrl", "notify")
	if err != nil {
		return err
	}
	if _, err := join(c, unix.NL80211_GENL_NAME, unix.NL80211_MULTICAST_GROUP_MLME, unix.NL80211_MULTICAST_GROUP_CONFIG); err != nil {
		return err
	}
	c.SetReadBuffer(earSpace) // what is granted will do
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	tell(notice{matter: changed}) // whatever was told before we were there
	return hearAll(c, control, tell)
}

// join makes a socket a member of some of a family's groups, and returns the family's
// number.
func join(c *genetlink.Conn, family string, groups ...string) (uint16, error) {
	f, err := c.GetFamily(family)
	if err != nil {
		return 0, fmt.Errorf("listening to %s: %w", family, err)
	}
	left := len(groups)
	for _, g := range f.Groups {
		for _, want := range groups {
			if g.Name != want {
				continue
			}
			if err := c.JoinGroup(g.ID); err != nil {
				return 0, fmt.Errorf("listening to %s of %s: %w", want, family, err)
			}
			left--
		}
	}
	if left > 0 {
		return 0, fmt.Errorf("%s does not have all of the groups %q", family, groups)
	}
	return f.ID, nil
}

// A receiver is a socket of generic netlink.
type receiver interface {
	Receive() ([]genetlink.Message, []netlink.Message, error)
}

// hearAll hands on what comes, until there is an error that lasts. That messages were
// lost for want of room (ENOBUFS) is none: whatever they said, a look will find it.
func hearAll(c receiver, control uint16, tell func(notice)) error {
	for {
		told, raw, err := c.Receive()
		if errors.Is(err, unix.ENOBUFS) {
			tell(notice{matter: changed})
			continue
		}
		if err != nil {
			return fmt.Errorf("listening to nl80211: %w", err)
		}
		for i, m := range told {
			if i < len(raw) && uint16(raw[i].Header.Type) == control {
				if bytes.Contains(m.Data, []byte(unix.NL80211_GENL_NAME+"\x00")) {
					return errReloaded
				}
				continue
			}
			if n, ok := parse(m); ok {
				tell(n)
			}
		}
	}
}
