package revive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// A device is where the kernel keeps a radio, so that its driver can be told to let
// go of it and to take it again. Paths are below the directory of sysfs.
type device struct {
	Interface string `json:"interface"`
	// Driver is the directory of the driver on its bus, bus/sdio/drivers/brcmfmac.
	Driver string `json:"driver"`
	// Functions are the parts that the driver holds, in their order. The radio on a
	// Pi's board has two (mmc1:0001:1 and :2), and its driver begins only with the
	// second: who gives back the first alone gets no radio.
	Functions []string `json:"functions"`
	// Phy is the radio's name in lines of the log, like phy0. It counts up with each
	// new start of the driver.
	Phy string `json:"phy,omitempty"`
}

func (d device) name() string         { return filepath.Base(d.Driver) }
func (d device) has(part string) bool { return slices.Contains(d.Functions, part) }

// Why a device cannot be given back to its driver.
var (
	errNoInterface = errors.New("there is no such interface")
	errVirtual     = errors.New("it is virtual: no bus and no device is behind it, so there is no driver that could begin anew")
	errNoDriver    = errors.New("no driver holds the device")
	errFixed       = errors.New("its driver does not let go of devices")
	errHangs       = errors.New("its driver has not come back from what it was told before")
)

// find looks up the device behind a network interface in the sysfs at sys.
func find(sys, ifname string) (device, error) {
	netdev := filepath.Join(sys, "class/net", ifname)
	if _, err := os.Stat(netdev); errors.Is(err, fs.ErrNotExist) {
		return device{}, fmt.Errorf("%s: %w", ifname, errNoInterface)
	} else if err != nil {
		return device{}, err
	}
	dev, err := filepath.EvalSymlinks(filepath.Join(netdev, "device"))
	if errors.Is(err, fs.ErrNotExist) {
		return device{}, fmt.Errorf("%s: %w", ifname, errVirtual)
	} else if err != nil {
		return device{}, err
	}
	root, err := filepath.EvalSymlinks(sys)
	if err != nil {
		return device{}, err
	}
	d := device{Interface: ifname}
	if phy, err := filepath.EvalSymlinks(filepath.Join(netdev, "phy80211")); err == nil {
		d.Phy = filepath.Base(phy)
	}
	bus, err := filepath.EvalSymlinks(filepath.Join(dev, "subsystem"))
	if err != nil || filepath.Dir(bus) != filepath.Join(root, "bus") {
		return d, fmt.Errorf("%s: %w", ifname, errVirtual)
	}
	driver, err := filepath.EvalSymlinks(filepath.Join(dev, "driver"))
	if err != nil {
		return d, fmt.Errorf("%s: %w", ifname, errNoDriver)
	}
	for _, file := range []string{"unbind", "bind"} {
		if _, err := os.Stat(filepath.Join(driver, file)); err != nil {
			return d, fmt.Errorf("%s: %w", ifname, errFixed)
		}
	}
	if d.Driver, err = filepath.Rel(root, driver); err != nil || filepath.Dir(filepath.Dir(driver)) != bus {
		return device{}, fmt.Errorf("%s: %w", ifname, errNoDriver)
	}
	d.Functions = functions(dev, driver, filepath.Base(bus))
	return d, nil
}

// functions are the parts of the card or adapter that the same driver holds. On other
// buses what stands beside a device is another device.
func functions(dev, driver, bus string) []string {
	if bus != "sdio" && bus != "usb" {
		return []string{filepath.Base(dev)}
	}
	var out []string
	entries, err := os.ReadDir(filepath.Dir(dev))
	if err != nil {
		return []string{filepath.Base(dev)}
	}
	for _, e := range entries {
		its, err := filepath.EvalSymlinks(filepath.Join(filepath.Dir(dev), e.Name(), "driver"))
		if err == nil && its == driver {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	return out
}

const (
	// hold is how long a driver may take to let go of a device or to take one. One
	// that does not come back has to be left where it is: nobody can call it off.
	hold = 30 * time.Second
	// returns is how long the interface may take to be there again.
	returns = 20 * time.Second
)

// rebind takes every part from its driver and gives it back. Giving back is tried
// whatever became of the taking: half of it may have been done, now or before.
// It has worked when the interface is there again. A driver that hangs is told nothing
// more: each time would cost another thread, for ever.
func (d device) rebind(ctx context.Context, sys, ifname string, s *stuck) error {
	if err := s.on(ifname); err != nil {
		return err
	}
	var failed []error
	for _, file := range []string{"unbind", "bind"} {
		for _, part := range d.Functions {
			if err := write(ctx, filepath.Join(sys, d.Driver, file), part, s.begin(ifname)); err != nil {
				failed = append(failed, err)
			}
			if s.on(ifname) != nil {
				return errors.Join(failed...)
			}
		}
	}
	end := time.NewTimer(returns)
	defer end.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(filepath.Join(sys, "class/net", ifname)); err == nil && len(failed) < 2*len(d.Functions) {
			return nil
		} else if err == nil {
			return errors.Join(failed...)
		}
		select {
		case <-tick.C:
		case <-end.C:
			return errors.Join(append(failed, fmt.Errorf("%s has not come back within %s", ifname, returns))...)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A stuck is which interfaces' drivers are at something now, and do not come back from
// it perhaps. The zero value is ready; it is safe for concurrent use.
type stuck struct{ at sync.Map }

// begin notes that something was begun, until what it returns is called.
func (s *stuck) begin(ifname string) func() {
	s.at.Store(ifname, true)
	return func() { s.at.Delete(ifname) }
}

// on says that an interface's driver has not come back.
func (s *stuck) on(ifname string) error {
	if _, at := s.at.Load(ifname); at {
		return fmt.Errorf("%s: %w", ifname, errHangs)
	}
	return nil
}

// write tells a file of sysfs the name of a device. The kernel does what is asked
// within the write, and with a dead card that can last for ever; over is called when it
// has not.
func write(ctx context.Context, path, part string, over func()) error {
	done := make(chan error, 1)
	go func() { // ends with the write, which nobody can call off
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString(part)
			err = errors.Join(err, f.Close())
		}
		over()
		done <- err
	}()
	end := time.NewTimer(hold)
	defer end.Stop()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%s of %s: %w", filepath.Base(path), part, bare(err))
		}
		return nil
	case <-end.C:
		return fmt.Errorf("%s of %s: the driver has not answered within %s", filepath.Base(path), part, hold)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// bare is an error of a file without the path, which is told already.
func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// String names the driver and what it holds, for messages.
func (d device) String() string {
	return fmt.Sprintf("%s (%s)", d.name(), strings.Join(d.Functions, ", "))
}
