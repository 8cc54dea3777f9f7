package main

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The kernel is asked for the channels of this band, each once, and for no name.
func TestWhatAScanAsksFor(t *testing.T) {
	t.Parallel()
	for _, last := range []int{11, 13} {
		request, err := scanRequest(7, last)
		if err != nil {
			t.Fatal(err)
		}
		attributes, err := netlink.UnmarshalAttributes(request)
		if err != nil || len(attributes) != 2 || !about(genetlink.Message{Data: request}, 7) || about(genetlink.Message{Data: request}, 8) {
			t.Fatalf("%v, %v", attributes, err)
		}
		if attributes[1].Type&^netlink.Nested != unix.NL80211_ATTR_SCAN_FREQUENCIES {
			t.Errorf("attribute %d", attributes[1].Type)
		}
		channels, err := netlink.UnmarshalAttributes(attributes[1].Data)
		if err != nil || len(channels) != last {
			t.Fatalf("%v, %v", channels, err)
		}
		for i, c := range channels {
			if got := binary.NativeEndian.Uint32(c.Data); got != uint32(2412+5*i) {
				t.Errorf("channel %d is %d MHz", i+1, got)
			}
		}
	}
}

func TestMessagesAboutOthers(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{
		"nothing":        nil,
		"no attributes":  {1, 2, 3},
		"too few bytes":  {6, 0, unix.NL80211_ATTR_IFINDEX, 0, 7, 0, 0, 0},
		"another's":      {8, 0, unix.NL80211_ATTR_IFINDEX, 0, 9, 0, 0, 0},
		"of a phy alone": {8, 0, unix.NL80211_ATTR_WIPHY, 0, 7, 0, 0, 0},
	} {
		if about(genetlink.Message{Data: data}, 7) {
			t.Errorf("%s was taken for a message about the radio", name)
		}
	}
}

// This machine may have no Wi-Fi: then that is what is said.
func TestKernelWithoutRadios(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/sys/class/ieee80211"); err == nil {
		t.Skip("this kernel has nl80211")
	}
	if _, err := openKernel(); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestSurveyIsAskedForInWords(t *testing.T) {
	t.Parallel()
	file, _ := site(t, twoRadios)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-network", "P9"}, `no network with a radio is named "P9"; there are P1, P2`},
		{nil, "say with the radio of which network, like -network P1; there are P1, P2"},
		{[]string{"P1"}, `"P1" is one word too many for chargegate survey`},
		{[]string{"-network", "P1"}, "this kernel has no nl80211"},
	} {
		if _, err := os.Stat("/sys/class/ieee80211"); (err == nil || os.Geteuid() != 0) && len(tt.args) == 2 && tt.args[1] == "P1" {
			continue // it would begin to listen, or ask for sudo
		}
		code, out, complain := (&daemon{}).use(t, pipe, append([]string{"survey", "-config", file}, tt.args...)...)
		if code != exitNoAnswer || out != "" || !strings.Contains(complain, tt.want) {
			t.Errorf("%q: exit %d, printed %q, complained %q", tt.args, code, out, complain)
		}
	}
}
