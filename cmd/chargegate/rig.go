package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/mdlayher/wifi"
	"golang.org/x/sys/unix"
)

// An ether is what a survey asks of nl80211.
type ether interface {
	Interfaces() ([]*wifi.Interface, error)
	Scan(context.Context, *wifi.Interface) error
	AccessPoints(*wifi.Interface) ([]*wifi.BSS, error)
	SurveyInfo(*wifi.Interface) ([]*wifi.SurveyInfo, error)
}

// A rig is what a survey works with: the radios, the interfaces, and the programs
// of the system.
type rig struct {
	ether
	// link sets an interface up or down and says how it was.
	link func(ifname string, up bool) (was bool, err error)
	// program runs one and returns what it printed.
	program func(ctx context.Context, words ...string) (string, error)
}

// ready makes a radio that serves nobody one that can listen: no access point, and
// up. Restore sets it as it was, so that hostapd finds what it expects.
func (r rig) ready(ctx context.Context, ifi *wifi.Interface) (restore func(), err error) {
	if ifi.Type != wifi.InterfaceTypeStation { // a hostapd that was killed leaves it an access point
		if _, err := r.link(ifi.Name, false); err != nil {
			return nil, err
		}
		if _, err := r.program(ctx, "iw", "dev", ifi.Name, "set", "type", "managed"); err != nil {
			return nil, fmt.Errorf("the radio %s cannot be made to listen: %w", ifi.Name, err)
		}
	}
	was, err := r.link(ifi.Name, true)
	if err != nil {
		return nil, err
	}
	if was {
		return func() {}, nil
	}
	return func() { _, _ = r.link(ifi.Name, false) }, nil // what cannot be set down is gone
}

// scanProblem says in words why a scan failed.
func scanProblem(err error) string {
	switch {
	case errors.Is(err, wifi.ErrScanAborted):
		return "something else has ended the scan"
	case errors.Is(err, unix.EBUSY):
		return "it is listening for something else"
	case errors.Is(err, unix.EPERM):
		return "this process may not use the radio"
	case errors.Is(err, unix.ENETDOWN):
		return "something else has switched it off"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "the driver does not answer"
	}
	return err.Error()
}

// A kernel is a conversation with nl80211 in which no question waits for ever, and
// none that is answered with too few bytes ends the program.
type kernel struct{ *wifi.Client }

func openKernel() (kernel, error) {
	c, err := wifi.New()
	if errors.Is(err, os.ErrNotExist) {
		return kernel{}, errors.New("this kernel has no nl80211: is the Wi-Fi adapter plugged in and its driver loaded (lsmod, sudo dmesg)?")
	}
	if err != nil {
		return kernel{}, fmt.Errorf("asking nl80211: %w", err)
	}
	return kernel{c}, nil
}

// kernelWithin is how long one question may take. The Pi's own radio measures while
// it is asked, 80 ms for each of its channels.
const kernelWithin = 15 * time.Second

func answered[T any](c *wifi.Client, ask func() (T, error)) (out T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("reading what the driver says: %v", p)
		}
	}()
	if err := c.SetDeadline(time.Now().Add(kernelWithin)); err != nil {
		return out, err
	}
	return ask()
}

func (k kernel) Interfaces() ([]*wifi.Interface, error) {
	return answered(k.Client, k.Client.Interfaces)
}

func (k kernel) Scan(ctx context.Context, ifi *wifi.Interface) error {
	_, err := answered(k.Client, func() (struct{}, error) { return struct{}{}, listenOnce(ctx, ifi.Index) })
	return err
}

func (k kernel) AccessPoints(ifi *wifi.Interface) ([]*wifi.BSS, error) {
	return answered(k.Client, func() ([]*wifi.BSS, error) { return k.Client.AccessPoints(ifi) })
}

func (k kernel) SurveyInfo(ifi *wifi.Interface) ([]*wifi.SurveyInfo, error) {
	return answered(k.Client, func() ([]*wifi.SurveyInfo, error) { return k.Client.SurveyInfo(ifi) })
}

// setLink sets an interface up or down (netdevice(7), SIOCSIFFLAGS).
func setLink(ifname string, up bool) (was bool, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("a socket for %s: %w", ifname, err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(ifname)
	if err != nil {
		return false, fmt.Errorf("the interface %s: %w", ifname, err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return false, fmt.Errorf("the interface %s: %w", ifname, err)
	}
	flags := req.Uint16()
	was = flags&unix.IFF_UP != 0
	if was == up {
		return was, nil
	}
	req.SetUint16(flags ^ unix.IFF_UP)
	err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
	if errors.Is(err, unix.ERFKILL) {
		return was, fmt.Errorf("the radio %s is switched off (rfkill). Run: sudo rfkill unblock wlan", ifname)
	}
	if err != nil {
		return was, fmt.Errorf("switching the interface %s: %w", ifname, err)
	}
	return was, nil
}

// programWithin is how long a program of the system may take.
const programWithin = 30 * time.Second

// program runs one in a process group of its own: a ^C is meant for the survey,
// which puts things in order.
func program(ctx context.Context, words ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, programWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %s", words[0], cmp.Or(strings.TrimSpace(complaint.String()), err.Error()))
	}
	return out.String(), nil
}
