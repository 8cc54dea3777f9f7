package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"chargegate/pkg/hostapd"
	"chargegate/pkg/sim"
	"chargegate/test/vm/wire"
)

// A station is a charger's Wi-Fi: a radio in a namespace of its own, with
// wpa_supplicant and udhcpc.
type station struct {
	number     int
	name, dir  string
	space      *sim.Space
	supplicant *sim.Program
	client     *sim.Program

	mu      sync.Mutex
	charger *sim.Charger
	leave   func()
}

// crew is all stations by number.
var crew = struct {
	sync.Mutex
	all map[int]*station
}{all: map[int]*station{}}

// atOnce is how many stations are being made at a time: one waits for the kernel or
// for hostapd while the other is at work, and more would only wait for each other.
const atOnce = 2

// stations brings stations up, and waits for their addresses.
func stations(ctx context.Context, args json.RawMessage) (any, error) {
	var a wire.Stations
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, err
	}
	ctx, end := context.WithTimeout(ctx, a.Within)
	defer end()
	began := time.Now()
	all := make([]wire.Station, a.Count)
	turn := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			turn <- struct{}{}
			all[i] = wire.Station{Number: a.First + i, MAC: wire.StationMAC(a.First + i)}
			s, err := makeStation(ctx, a, a.First+i)
			all[i].Made = time.Since(began)
			<-turn
			if err == nil {
				err = s.join(ctx, &all[i], began)
			}
			if err != nil {
				all[i].Trouble = err.Error()
			}
		})
	}
	wg.Wait()
	return all, nil
}

// makeStation makes a station, or returns the one that there is, and starts its
// wpa_supplicant.
func makeStation(ctx context.Context, a wire.Stations, number int) (*station, error) {
	crew.Lock()
	s := crew.all[number]
	crew.Unlock()
	if s != nil {
		return s, nil
	}
	s = &station{number: number, name: fmt.Sprintf("s%d", number)}
	s.dir = filepath.Join(sim.Dir, s.name)
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if s.space, err = sim.NewSpace(s.name); err != nil {
		return nil, err
	}
	if err := newRadio(s.name, wire.StationMAC(number)); err != nil {
		return nil, err
	}
	file := filepath.Join(s.dir, "wpa_supplicant.conf")
	if err := os.WriteFile(file, []byte(network(s.dir, a)), 0o600); err != nil {
		return nil, err
	}
	if s.supplicant, err = s.space.Launch("wpa_supplicant", "-Dnl80211", "-i"+iface, "-c"+file); err != nil {
		return nil, err
	}
	crew.Lock()
	crew.all[number] = s
	crew.Unlock()
	return s, nil
}

// network is a station's configuration. The channel is known, so that it need not
// look for it on all of them.
func network(dir string, a wire.Stations) string {
	return fmt.Sprintf(`ctrl_interface=%s/control
network={
	ssid="%s"
	psk=%s
	key_mgmt=WPA-PSK
	proto=RSN
	pairwise=CCMP
	scan_freq=%d
	freq_list=%[4]d
}
`, dir, a.SSID, a.PSK, a.Frequency)
}

// join waits until the station has keys, and then an address.
func (s *station) join(ctx context.Context, told *wire.Station, began time.Time) error {
	if err := s.associate(ctx); err != nil {
		return err
	}
	told.Associated = time.Since(began)
	if err := s.lease(ctx); err != nil {
		return err
	}
	told.Leased = time.Since(began)
	b, err := s.binding()
	told.Address = b.Addr
	return err
}

// associate waits until wpa_supplicant has the keys.
func (s *station) associate(ctx context.Context) error {
	last := ""
	err := soon(ctx, func() bool {
		answer, err := s.say(ctx, "STATUS")
		if err != nil {
			last = err.Error()
		} else {
			last = "wpa_supplicant is at " + hostapd.Values(answer)["wpa_state"]
		}
		return last == "wpa_supplicant is at COMPLETED"
	})
	if err != nil {
		return fmt.Errorf("not associated, %s", last)
	}
	return nil
}

// say puts a command to wpa_supplicant, which speaks as hostapd does.
func (s *station) say(ctx context.Context, command string) (answer string, err error) {
	err = s.space.Do(func() error {
		c, err := hostapd.Dial(filepath.Join(s.dir, "control", iface))
		if err != nil {
			return err
		}
		defer c.Close()
		answer, err = c.Ask(ctx, command)
		return err
	})
	return answer, err
}

// soon asks again and again until ok or ctx is done.
func soon(ctx context.Context, ok func() bool) error {
	for !ok() {
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// hook is what udhcpc calls. It writes down every address that the station was
// given.
const hook = `#!/bin/sh
case $1 in
deconfig)
	ip -4 addr flush dev $interface
	;;
bound|renew)
	ip addr replace $ip/$mask dev $interface
	ip route replace default via $router dev $interface
	echo "$ip/$mask $router $dns $serverid $lease" >> %s
	;;
esac
`

// lease starts udhcpc, where it does not run yet, and waits for an address.
func (s *station) lease(ctx context.Context) error {
	if s.client == nil {
		script := filepath.Join(s.dir, "hook")
		if err := os.WriteFile(script, fmt.Appendf(nil, hook, s.notes()), 0o755); err != nil {
			return err
		}
		var err error
		if s.client, err = s.space.Launch("busybox", "udhcpc", "-f", "-i", iface, "-s", script, "-t", "10", "-T", "2", "-A", "1", "-x", "hostname:"+s.name); err != nil {
			return err
		}
	}
	if soon(ctx, func() bool { _, err := s.binding(); return err == nil }) != nil {
		return fmt.Errorf("associated, and no address; udhcpc's last words: %s", s.client.Last(3))
	}
	return nil
}

// notes is the file of the addresses that the station was given.
func (s *station) notes() string { return filepath.Join(s.dir, "addresses") }

// bindings are what DHCP has given the station so far.
func (s *station) bindings() ([]sim.Binding, error) {
	text, err := os.ReadFile(s.notes())
	if err != nil {
		return nil, err
	}
	var all []sim.Binding
	for line := range strings.Lines(string(text)) {
		b, err := parseBinding(line)
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}

// parseBinding reads a line of notes.
func parseBinding(line string) (b sim.Binding, err error) {
	f := strings.Fields(line)
	if len(f) != 5 {
		return b, fmt.Errorf("reading what udhcpc was given: %q", line)
	}
	seconds, err := strconv.Atoi(f[4])
	b.Lease = time.Duration(seconds) * time.Second
	addr, e := netip.ParsePrefix(f[0])
	b.Addr = addr
	all := []error{err, e}
	for i, to := range []*netip.Addr{&b.Router, &b.DNS, &b.Server} {
		*to, e = netip.ParseAddr(f[1+i])
		all = append(all, e)
	}
	return b, errors.Join(all...)
}

// binding is the last of the bindings.
func (s *station) binding() (sim.Binding, error) {
	all, err := s.bindings()
	if err != nil || len(all) == 0 {
		return sim.Binding{}, errors.Join(err, fmt.Errorf("%s has no address", s.name))
	}
	return all[len(all)-1], nil
}

// chosen are stations by their numbers; none: all that have an address.
func chosen(numbers []int) ([]*station, error) {
	crew.Lock()
	defer crew.Unlock()
	var some []*station
	for _, n := range numbers {
		if crew.all[n] == nil {
			return nil, fmt.Errorf("there is no station %d", n)
		}
		some = append(some, crew.all[n])
	}
	if len(numbers) > 0 {
		return some, nil
	}
	for _, s := range crew.all {
		if _, err := s.binding(); err == nil {
			some = append(some, s)
		}
	}
	return some, nil
}
