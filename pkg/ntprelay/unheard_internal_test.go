package ntprelay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestUnheard(t *testing.T) {
	t.Parallel()
	// A port that was free a moment ago: chronyd is not there.
	held, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(held.LocalAddr().String())
	held.Close()
	_, refused := askChronyd(t.Context(), at)
	for _, tt := range []struct {
		source string
		err    error
		want   string
	}{
		{Chrony, refused, "chronyd does not run"},
		{Chrony, fmt.Errorf("asking chronyd at %s: %w", at, os.ErrDeadlineExceeded), "chronyd does not answer"},
		{Chrony, context.DeadlineExceeded, "chronyd does not answer"},
		{Chrony, errors.New("asking chronyd: its answer belongs to another question"), "chronyd gives no usable answer"},
		{Kernel, fmt.Errorf("reading the kernel's clock state (adjtimex): %w", syscall.EPERM), "this service may not read the kernel's clock (kernel-clock.conf)"},
		{Kernel, syscall.EFAULT, "the kernel does not tell how right the clock is"},
	} {
		if got := unheard(tt.source, tt.err); got != tt.want {
			t.Errorf("%s, %v: %q, want %q", tt.source, tt.err, got, tt.want)
		}
	}
}

// What the noticeboard shows has no colon in it: it stands behind one.
func TestReasonIsShort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom()
		r.says(func() (reading, error) {
			return reading{}, fmt.Errorf("asking chronyd at 127.0.0.1:323: %w", syscall.ECONNREFUSED)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r.follow(ctx)
		if got := r.Clock().Reason; got != "chronyd does not run" || strings.Contains(got, ":") {
			t.Errorf("the reason is %q", got)
		}
	})
}

// What helps is said with the news, and fits them.
func TestRemedy(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ source, reason, want string }{
		{Chrony, "chronyd does not run", "sudo systemctl restart chrony"},
		{Chrony, "chronyd does not answer", "sudo systemctl restart chrony"},
		{Chrony, "chronyd gives no usable answer", "sudo systemctl restart chrony"},
		{Chrony, "the clock is not synchronised", "chronyc sources"},
		{Kernel, "the clock is not synchronised", "timedatectl"},
	} {
		if got := remedy(tt.source, tt.reason); got.Key != "DO" || !strings.Contains(got.Value, tt.want) || !strings.HasSuffix(got.Value, ".") {
			t.Errorf("%s, %s: %v", tt.source, tt.reason, got)
		}
	}
}
