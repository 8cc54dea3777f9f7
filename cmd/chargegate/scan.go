package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"github.com/mdlayher/wifi"
	"golang.org/x/sys/unix"

	"chargegate/pkg/air"
)

// scanWithin bounds one scan, which takes a second and a half.
const scanWithin = 15 * time.Second

// listenOnce listens to each channel of the band once, and returns when the kernel
// has done so. It asks nobody: answers would count as a busy channel. The package
// wifi has a scan, too: it asks everybody, also on 5 GHz, which takes four times as
// long, and hears nothing of ctx until the kernel says something.
func listenOnce(ctx context.Context, ifindex int) error {
	err := listenTo(ctx, ifindex, 13)
	if errors.Is(err, unix.EINVAL) { // a radio that does not know of 12 and 13
		err = listenTo(ctx, ifindex, air.Last)
	}
	return err
}

// listenTo is listenOnce for channels up to last.
func listenTo(ctx context.Context, ifindex, last int) error {
	c, err := genetlink.Dial(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(scanWithin)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	f, err := c.GetFamily(unix.NL80211_GENL_NAME)
	if err != nil {
		return err
	}
	if err := joinScans(c, f); err != nil {
		return err
	}
	request, err := scanRequest(ifindex, last)
	if err != nil {
		return err
	}
	m := genetlink.Message{Header: genetlink.Header{Command: unix.NL80211_CMD_TRIGGER_SCAN, Version: f.Version}, Data: request}
	if _, err := c.Send(m, f.ID, netlink.Request|netlink.Acknowledge); err != nil {
		return err
	}
	for {
		said, raw, err := c.Receive()
		if err != nil {
			return err
		}
		for i, m := range said {
			if raw[i].Header.Type != netlink.HeaderType(f.ID) || !about(m, ifindex) {
				continue
			}
			switch m.Header.Command {
			case unix.NL80211_CMD_NEW_SCAN_RESULTS:
				return nil
			case unix.NL80211_CMD_SCAN_ABORTED:
				return wifi.ErrScanAborted
			}
		}
	}
}

// joinScans hears how scans end.
func joinScans(c *genetlink.Conn, f genetlink.Family) error {
	for _, g := range f.Groups {
		if g.Name == unix.NL80211_MULTICAST_GROUP_SCAN {
			return c.JoinGroup(g.ID)
		}
	}
	return fmt.Errorf("this kernel does not say when a scan has ended")
}

// scanRequest asks for a scan of the channels from 1 to last. Without a name to ask
// for the radio only listens (NL80211_CMD_TRIGGER_SCAN).
func scanRequest(ifindex, last int) ([]byte, error) {
	e := netlink.NewAttributeEncoder()
	e.Uint32(unix.NL80211_ATTR_IFINDEX, uint32(ifindex))
	e.Nested(unix.NL80211_ATTR_SCAN_FREQUENCIES, func(e *netlink.AttributeEncoder) error {
		for channel := 1; channel <= last; channel++ {
			e.Uint32(uint16(channel), uint32(air.Frequency(channel)))
		}
		return nil
	})
	return e.Encode()
}

// about reports whether a message is about an interface.
func about(m genetlink.Message, ifindex int) bool {
	attributes, err := netlink.UnmarshalAttributes(m.Data)
	if err != nil {
		return false
	}
	for _, a := range attributes {
		if a.Type == unix.NL80211_ATTR_IFINDEX && len(a.Data) == 4 {
			return int(binary.NativeEndian.Uint32(a.Data)) == ifindex
		}
	}
	return false
}
