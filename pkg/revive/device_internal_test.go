package revive

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A tree is a sysfs of directories, links and pipes; what is written to bind and
// unbind can be read.
type tree struct {
	*testing.T
	root string
}

func sysfs(t *testing.T) tree {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return tree{t, root}
}

func (s tree) at(path string) string { return filepath.Join(s.root, path) }

func (s tree) dir(paths ...string) {
	s.Helper()
	for _, p := range paths {
		if err := os.MkdirAll(s.at(p), 0o755); err != nil {
			s.Fatal(err)
		}
	}
}

func (s tree) link(from, to string) {
	s.Helper()
	s.dir(filepath.Dir(from))
	if err := os.Symlink(s.at(to), s.at(from)); err != nil {
		s.Fatal(err)
	}
}

func (s tree) driver(path string) {
	s.Helper()
	s.dir(path)
	for _, file := range []string{"bind", "unbind"} {
		if err := os.WriteFile(s.at(path+"/"+file), nil, 0o600); err != nil {
			s.Fatal(err)
		}
	}
}

// device puts a network interface on a device of a bus.
func (s tree) device(ifname, dev, bus, driver, phy string) {
	s.Helper()
	s.dir(dev, bus)
	s.link(dev+"/subsystem", bus)
	if driver != "" {
		s.link(dev+"/driver", driver)
	}
	if ifname == "" {
		return
	}
	s.dir(dev+"/net/"+ifname, dev+"/ieee80211/"+phy)
	s.link(dev+"/net/"+ifname+"/device", dev)
	s.link(dev+"/net/"+ifname+"/phy80211", dev+"/ieee80211/"+phy)
	s.link("class/net/"+ifname, dev+"/net/"+ifname)
}

const (
	sdioDriver = "bus/sdio/drivers/brcmfmac"
	card       = "devices/platform/soc/fe300000.mmcnr/mmc_host/mmc1/mmc1:0001/"
)

// pi is the radio of a Raspberry Pi's board: one card, whose driver holds two functions.
func pi(t *testing.T) tree {
	s := sysfs(t)
	s.driver(sdioDriver)
	s.device("wlan0", card+"mmc1:0001:1", "bus/sdio", sdioDriver, "phy0")
	s.device("", card+"mmc1:0001:2", "bus/sdio", sdioDriver, "")
	s.device("", card+"mmc1:0001:3", "bus/sdio", "", "") // Bluetooth, which nobody holds
	return s
}

func TestFind(t *testing.T) {
	s := pi(t)
	s.driver("bus/pci/drivers/e1000")
	s.device("eth1", "devices/pci0000:00/0000:00:04.0", "bus/pci", "bus/pci/drivers/e1000", "x")
	s.device("", "devices/pci0000:00/0000:00:05.0", "bus/pci", "bus/pci/drivers/e1000", "") // another card
	s.driver("bus/usb/drivers/mt76x2u")
	s.device("wlan1", "devices/usb1/1-1/1-1.2/1-1.2:1.0", "bus/usb", "bus/usb/drivers/mt76x2u", "phy1")
	s.dir("bus/usb/drivers/usb")
	s.device("", "devices/usb1/1-1/1-1.2", "bus/usb", "bus/usb/drivers/usb", "")
	s.device("hwsim0", "devices/virtual/mac80211_hwsim/hwsim0", "class/mac80211_hwsim", "", "phy2")
	s.dir("devices/virtual/net/br0")
	s.link("class/net/br0", "devices/virtual/net/br0")
	s.device("wlan2", "devices/usb1/1-2/1-2:1.0", "bus/usb", "", "phy3")
	s.dir("bus/platform/drivers/fixed")
	s.device("wlan3", "devices/platform/fixed.0", "bus/platform", "bus/platform/drivers/fixed", "phy4")
	for name, tt := range map[string]struct {
		ifname, want string
		err          error
	}{
		"the Pi's own, with two functions":   {"wlan0", "brcmfmac (mmc1:0001:1, mmc1:0001:2)", nil},
		"a PCI card, and not the one beside": {"eth1", "e1000 (0000:00:04.0)", nil},
		"a USB stick":                        {"wlan1", "mt76x2u (1-1.2:1.0)", nil},
		"a simulated radio":                  {"hwsim0", "", errVirtual},
		"a bridge":                           {"br0", "", errVirtual},
		"one whose driver has let go":        {"wlan2", "", errNoDriver},
		"one whose driver never does":        {"wlan3", "", errFixed},
		"one that is not there":              {"wlan9", "", errNoInterface},
		"one with a name that leads astray":  {"../../etc", "", errNoInterface},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := find(s.root, tt.ifname)
			if !errors.Is(err, tt.err) || err == nil && d.String() != tt.want {
				t.Errorf("%s, %v; want %s, %v", d, err, tt.want, tt.err)
			}
		})
	}
}

// written makes pipes of bind and unbind, and returns what was written to each so far.
func (s tree) written(driver string) func(file string) string {
	s.Helper()
	var mu sync.Mutex
	all := map[string]string{}
	for _, file := range []string{"bind", "unbind"} {
		path := s.at(driver + "/" + file)
		if err := errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)); err != nil {
			s.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			s.Fatal(err)
		}
		var reader sync.WaitGroup
		reader.Go(func() {
			buf := make([]byte, 100)
			for {
				n, err := f.Read(buf)
				if err != nil {
					return
				}
				mu.Lock()
				all[file] += string(buf[:n])
				mu.Unlock()
			}
		})
		s.Cleanup(func() { f.Close(); reader.Wait() })
	}
	return func(file string) string {
		mu.Lock()
		defer mu.Unlock()
		return all[file]
	}
}

func TestRebindTakesAndGivesBackEveryFunction(t *testing.T) {
	s := pi(t)
	d, err := find(s.root, "wlan0")
	if err != nil {
		t.Fatal(err)
	}
	written := s.written(sdioDriver)
	if err := d.rebind(t.Context(), s.root, "wlan0", new(stuck)); err != nil {
		t.Fatal(err)
	}
	const both = "mmc1:0001:1mmc1:0001:2"
	for range 1000 { // the readers may be behind
		if written("unbind") == both && written("bind") == both {
			return
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
	}
	t.Errorf("unbind %q, bind %q; want %q of both", written("unbind"), written("bind"), both)
}

func TestRebindGivesBackThoughTakingFailed(t *testing.T) {
	s := pi(t)
	d, err := find(s.root, "wlan0")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.at(sdioDriver + "/unbind")); err != nil {
		t.Fatal(err)
	}
	if err := d.rebind(t.Context(), s.root, "wlan0", new(stuck)); err != nil { // it is there, so it has worked
		t.Error(err)
	}
	bound, err := os.ReadFile(s.at(sdioDriver + "/bind"))
	if err != nil || string(bound) != "mmc1:0001:2" {
		t.Errorf("given back: %q, %v", bound, err)
	}
	if err := os.Remove(s.at(sdioDriver + "/bind")); err != nil {
		t.Fatal(err)
	}
	err = d.rebind(t.Context(), s.root, "wlan0", new(stuck))
	if err == nil || !strings.Contains(err.Error(), "unbind of mmc1:0001:1: no such file") || !strings.Contains(err.Error(), "bind of mmc1:0001:2: no such file") {
		t.Errorf("nothing worked, and it says: %v", err)
	}
}

// TestADriverThatNeverComesBack holds one thread, however often it would be asked, and
// may be asked again once it is back. A pipe that nobody reads stands for it.
func TestADriverThatNeverComesBack(t *testing.T) {
	s := pi(t)
	path := s.at(sdioDriver + "/unbind")
	if err := errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	e := &edge{sys: s.root}
	d, err := e.find("wlan0")
	if err != nil {
		t.Fatal(err)
	}
	asks := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		return e.rebind(ctx, Radio{Network: "P1", Interface: "wlan0"}, d)
	}
	before := runtime.NumGoroutine()
	if err := asks(); err == nil {
		t.Error("nobody says that it hangs")
	}
	for range 20 {
		if err := asks(); !errors.Is(err, errHangs) {
			t.Errorf("asked again: %v", err)
		}
	}
	if n := runtime.NumGoroutine() - before; n > 1 {
		t.Errorf("%d goroutines hang, want 1", n)
	}
	if bound, err := os.ReadFile(s.at(sdioDriver + "/bind")); err != nil || len(bound) > 0 {
		t.Errorf("it was told to take %q as well, %v", bound, err)
	}
	if _, err := e.find("wlan0"); !errors.Is(err, errHangs) {
		t.Errorf("found: %v", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0) // and it comes back
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 1000 {
		if _, err = e.find("wlan0"); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		t.Errorf("it has come back: %v", err)
	}
	if err := asks(); err != nil {
		t.Error(err)
	}
}
