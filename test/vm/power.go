package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"chargegate/pkg/sim"
	"chargegate/pkg/status"
	"chargegate/test/vm/wire"
)

// powerScenarios are those of power cuts (G).
func powerScenarios() []Scenario {
	return []Scenario{{
		Name: "power", What: "10 cuts of the power at random moments of commissioning, and 2 on a card that forgets: nothing that was promised is lost",
		From: "power", Nightly: true, Limit: 10 * time.Minute, Run: func(l *Lab) error { return powerCuts(l, false) },
	}, {
		Name: "power-boot", What: "the same with the whole system on the card, and a boot after each cut", From: "power", Nightly: true,
		Limit: 20 * time.Minute, Run: func(l *Lab) error { return powerCuts(l, true) },
	}}
}

const (
	cuts      = 10 // as SSDs and good cards do it: what was written stays
	wildCuts  = 2  // what was not flushed stays in part
	batch     = 48 // chargers that are commissioned between two cuts
	herdTotal = batch * (cuts + wildCuts)
)

// lean leaves the radios out of a boot, and all that READY does not need: the network
// is begun by hand then.
const lean = "modprobe.blacklist=mac80211_hwsim systemd.unit=chargegated.service"

// powerCuts: each start looks at what the cut before has left, and is the next
// commissioning. The card holds what the daemon keeps, as on a box whose system is
// read-only. The first start, the one after the last cut of the good card and the last
// one of all are whole boots, to beacons; the others begin from a snapshot in which the
// system has never seen the card. With whole the card holds everything, and each start
// is a boot. SEED=n repeats a run's dice.
func powerCuts(l *Lab, whole bool) error {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		seed = s
	}
	l.Note("SEED=%d", seed)
	p := &powers{Lab: l, whole: whole, dice: rand.New(rand.NewPCG(seed, 0)), promised: ledger{}}
	if err := p.prepare(); err != nil {
		return err
	}
	l.AtEnd(func() { p.card.close() })
	for n := range cuts + wildCuts {
		if err := p.start(n == 0 || n == cuts); err != nil {
			return fmt.Errorf("after cut %d: %w", n, err)
		}
		if err := p.commission(n); err != nil {
			return fmt.Errorf("before cut %d: %w", n+1, err)
		}
		var dice *rand.Rand
		if n >= cuts {
			dice = p.dice
		}
		lost, err := p.card.cut(dice)
		if err != nil {
			return err
		}
		p.figures = append(p.figures, fmt.Sprintf("%d/%d", len(p.promised), lost.Waiting))
		if dice != nil {
			l.Note("cut %d: of %d writes that nobody had flushed %d were lost and %d torn", n+1, lost.Waiting, lost.Lost, lost.Torn)
		}
	}
	if err := p.start(true); err != nil {
		return fmt.Errorf("after the last cut: %w", err)
	}
	l.Note("promised/unflushed at each cut: %s", strings.Join(p.figures, " "))
	l.Note("from power to READY: %s", strings.Join(p.starts, ", "))
	return nil
}

// powers is the state of the scenario.
type powers struct {
	*Lab
	whole           bool
	dice            *rand.Rand
	card            *card
	promised        ledger
	kept            memories // of the one on the Wi-Fi
	next            int      // the number of the next new charger
	figures, starts []string
}

// prepare makes the card, and the configuration: the lab's radio, and a wired network
// with the herd in its inventory.
func (p *powers) prepare() error {
	var inventory bytes.Buffer
	fmt.Fprintf(&inventory, "mac,name,serial,model,network,address\n%s,%s,,,P1,\n", wire.StationMAC(1), spaceName(1))
	for n := range herdTotal {
		mac := sim.CrowdMAC(n)
		fmt.Fprintf(&inventory, "%02x:%02x:%02x:%02x:%02x:%02x,H-%03d,,,P2,\n", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], n)
	}
	const conf = `[site]
name = "The lab in the dark"
inventory = "chargers.csv"

[[network]]
name = "P1"
interface = "wlan0"
chargers = 16
address = "10.83.0.1/24"

[network.radio]
ssid = "garage-p1"
passphrase = "credential:p1"
country = "SE"
channel = 6
max_stations = 12

[[network]]
name = "P2"
interface = "eth1"
chargers = 600
address = "10.83.16.1/22"

[uplink]
interface = "eth0"

[status]
metrics = ""
`
	files := map[string]string{"chargegate.toml": conf, "chargers.csv": inventory.String()}
	image := filepath.Join(p.Dir, "card.img")
	build := p.makeState
	if p.whole {
		build = p.makeWhole
	}
	err := build(image, files)
	if err == nil {
		p.card, err = openCard(image)
	}
	return err
}

// makeWhole makes a card of the guest's root.
func (p *powers) makeWhole(image string, files map[string]string) error {
	if err := command(p.ctx, "cp", "--sparse=always", p.Image.Root, image); err != nil {
		return err
	}
	var script strings.Builder
	for name, text := range files {
		file := filepath.Join(p.Dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&script, "rm /etc/chargegate/%s\nwrite %s /etc/chargegate/%s\n", name, file, name)
	}
	file := filepath.Join(p.Dir, "debugfs")
	if err := os.WriteFile(file, []byte(script.String()), 0o644); err != nil {
		return err
	}
	return command(p.ctx, "debugfs", "-w", "-f", file, image)
}

// makeState makes an empty card, and a snapshot of a system that waits for it.
func (p *powers) makeState(image string, files map[string]string) error {
	if err := p.Power(Machine{Append: lean}); err != nil {
		return err
	}
	if err := p.Ready(90 * time.Second); err != nil {
		return err
	}
	for name, text := range files {
		if _, err := p.Sh("cat >/etc/chargegate/%s <<'END'\n%sEND", name, text); err != nil {
			return err
		}
	}
	// The radio is there in whole boots only. udev must tell systemd of the card.
	err := p.Call("shell", wire.Shell{Timeout: 2 * time.Minute, Script: `systemctl mask --quiet --runtime chargegate-radio@P1
systemctl stop chargegate-radio@P1 chargegated
systemctl restart chargegate-prepare chargegate-firewall
systemctl stop chargegated
systemctl restart systemd-networkd
rm -rf /var/lib/chargegate; mkdir /var/lib/chargegate
cat >/etc/systemd/system/var-lib-chargegate.mount <<END
[Mount]
What=/dev/vdb
Where=/var/lib/chargegate
Type=ext4
Options=noatime
END
mkdir -p /etc/systemd/system/local-fs.target.requires
ln -s ../var-lib-chargegate.mount /etc/systemd/system/local-fs.target.requires/
sed -i '$s/$/ --subsystem-match=block/' /etc/systemd/system/systemd-udev-trigger.service.d/lab.conf
touch /run/chargegate/dated # what a right clock leaves there
sync
for i in $(seq 200); do ip -br addr show eth1 | grep -q 10.83.16.1/22 && exit 0; sleep 0.1; done
ip -br addr show eth1; exit 1`}, nil)
	if err != nil {
		return err
	}
	if err := p.save("waiting", p.waiting()); err != nil {
		return err
	}
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return err
	}
	return command(p.ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-J", "size=4", image, "64M")
}

func (p *powers) waiting() string { return filepath.Join(p.Dir, "waiting.qcow2") }

// start gives the guest its power, in a whole boot or not, and looks at what is left.
func (p *powers) start(boot bool) error {
	dir, err := os.MkdirTemp(filepath.Dir(p.Dir), "card-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) // who is connected stays so
	socket := filepath.Join(dir, "nbd")
	if err := p.card.power(socket); err != nil {
		return err
	}
	began := time.Now()
	card := "format=raw,cache=writeback,file=nbd+unix:///?socket=" + socket
	boot = boot || p.whole
	switch {
	case p.whole:
		err = p.Power(Machine{Root: card})
	case boot:
		err = p.boot(card)
	default:
		err = p.wake(socket)
	}
	if err == nil {
		err = p.Ready(120 * time.Second)
	}
	if err != nil {
		return err
	}
	took := round(time.Since(began))
	if boot {
		took += " (boot)"
	}
	p.starts = append(p.starts, took)
	if p.next == 0 {
		return p.remember()
	}
	if err := p.check(); err != nil {
		return err
	}
	if err := p.recall(); err != nil {
		return err
	}
	if boot {
		if err := p.serves(); err != nil {
			return err
		}
	}
	return p.quiet()
}

// boot is one from the power switch, with the card in its place.
func (p *powers) boot(card string) error {
	disk := filepath.Join(p.Dir, "system.qcow2")
	if err := command(p.ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", p.waiting(), disk); err != nil {
		return err
	}
	err := p.Power(Machine{Root: "format=qcow2,cache=unsafe,file=" + disk,
		Extra: []string{"-drive", "if=none,id=card," + card, "-device", "virtio-blk-pci,drive=card"}})
	if err != nil {
		return err
	}
	return p.UntilSh(60*time.Second, "the card is where it belongs", "findmnt -n -o SOURCE /var/lib/chargegate | grep -x /dev/vdb")
}

// memories are what the daemon keeps of a charger beside its address.
type memories struct {
	minutes int   // in which it was heard
	moved   int64 // bytes
}

// memories asks for what the daemon knows of the charger on the Wi-Fi.
func (p *powers) memories() (m memories, err error) {
	text, err := p.Sh("chargegate charger %s -json || test $? = 1", spaceName(1))
	if err != nil {
		return m, err
	}
	var d status.ChargerDetail
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return m, err
	}
	if d.Signals == nil || d.Volume == nil {
		return m, fmt.Errorf("neither signals nor volume of %s: %s", spaceName(1), text)
	}
	present := d.Signals.Minutes.Present
	for _, n := range present[:max(len(present)-1, 0)] { // the last one is not over
		m.minutes += max(n, 0) // gaps
	}
	m.moved = d.Volume.Sum.Month.Total()
	return m, nil
}

// remember has the daemon write down all that it keeps: a charger comes over the
// Wi-Fi all the way to the hub, and some time after that the daemon is started anew.
func (p *powers) remember() error {
	if err := p.Call("cloud", wire.Cloud{}, nil); err != nil {
		return err
	}
	if _, err := p.Sh("chronyc -n burst 4/8"); err != nil {
		return err
	}
	if err := p.serves(); err != nil {
		return err
	}
	if err := p.Call("talk", wire.Numbers{}, nil); err != nil {
		return err
	}
	if err := allWell(p.Lab, 1, 90*time.Second); err != nil {
		return err
	}
	var over memories
	err := p.Until(90*time.Second, "a minute of signal is over", func() (bool, error) {
		m, err := p.memories()
		over = m
		return m.minutes > 0, err
	})
	if err != nil {
		return err
	}
	if err := p.Call("quiet", wire.Quiet{}, nil); err != nil {
		return err
	}
	if _, err := p.Sh("systemctl restart chargegated"); err != nil {
		return err
	}
	if p.kept, err = p.memories(); err != nil {
		return err
	}
	if p.kept.minutes < over.minutes || p.kept.moved == 0 {
		return fmt.Errorf("after a restart the daemon remembers %+v, and of signals %d minutes before", p.kept, over.minutes)
	}
	p.kept.minutes = over.minutes // the restart's own minute may not be written yet
	p.Note("on the card from the first start on: %d minutes of signal, %d bytes of accounts, the names", p.kept.minutes, p.kept.moved)
	return p.recall()
}

// recall wants what was once written to be there, the names among it.
func (p *powers) recall() error {
	m, err := p.memories()
	if err != nil {
		return err
	}
	if m.minutes < p.kept.minutes || m.moved < p.kept.moved {
		return fmt.Errorf("the daemon remembers %+v of %+v", m, p.kept)
	}
	return p.UntilSh(10*time.Second, "the names are known from before", "journalctl -q -b -t chargegated --no-pager -o cat EVENT=resolver-recalled | grep .")
}

// serves wants beacons, and a charger on the Wi-Fi to have the address that it was
// promised.
func (p *powers) serves() error {
	if err := p.UntilSh(60*time.Second, "the radio sends", "iw dev wlan0 info | grep -q 'type AP'"); err != nil {
		return err
	}
	all, err := join(p.Lab, 1, 1, 60*time.Second)
	if err != nil {
		return err
	}
	if all[0].Leased == 0 {
		return fmt.Errorf("no address over the Wi-Fi: %s", all[0].Trouble)
	}
	mac, err := net.ParseMAC(all[0].MAC)
	if err != nil {
		return err
	}
	return p.promised.take(wire.Promise{MAC: [6]byte(mac), Addr: all[0].Address.Addr()})
}

// wake loads the system that waits, and puts the card in.
func (p *powers) wake(socket string) error {
	if err := p.load("waiting", p.waiting()); err != nil {
		return err
	}
	for _, step := range []struct {
		command string
		args    map[string]any
	}{
		{"blockdev-add", map[string]any{"node-name": "card", "driver": "raw", "file": map[string]any{
			"driver": "nbd", "server": map[string]any{"type": "unix", "path": socket}}}},
		{"device_add", map[string]any{"driver": "virtio-blk-pci", "id": "inserted", "bus": "reader", "drive": "card", "write-cache": "on"}},
	} {
		if err := p.QMP(step.command, step.args); err != nil {
			return err
		}
	}
	_, err := p.Sh(`for i in $(seq 200); do test -b /dev/vdb && break; sleep 0.05; done
mount -t ext4 -o noatime /dev/vdb /var/lib/chargegate && systemctl start chargegated`)
	return err
}

// check lets every charger ask that was ever promised an address: it gets the same.
func (p *powers) check() error {
	before := len(p.promised) - 1 // without the one on the Wi-Fi
	var t wire.HerdTally
	for _, remember := range []bool{false, true} {
		err := p.Call("herd", wire.Herd{Clients: p.next, Together: 32, Remember: remember, Limit: 40 * time.Second}, &t)
		if err != nil {
			return err
		}
		if t.Leased != p.next || t.Refused > 0 || t.Doubles > 0 || t.Moved > 0 {
			return fmt.Errorf("%d chargers ask again, %d of whom had been promised an address: %+v; want all leased and none refused, doubled or moved", p.next, before, t)
		}
	}
	return p.listen(0, 0)
}

// quiet makes sure that nothing is said which a cut does not explain. A lean start has
// no cloud and no uplink, and the box is right to say so.
func (p *powers) quiet() error {
	out, err := p.Sh(`journalctl -q -b -t chargegated -p err --no-pager -o cat | grep -v -e '^names cannot be asked for' -e '^the uplink eth0 is down'
journalctl -q -b -t chargegated --no-pager -o cat EVENT=volume-unread + EVENT=signal-unread + EVENT=resolver-file-unread
find /var/lib/chargegate -name '*.damaged*'; systemctl --failed --no-legend --plain`)
	if err != nil {
		return err
	}
	if out != "" {
		return fmt.Errorf("after the cut this was said or set aside:\n%s", out)
	}
	return nil
}

// listen takes down what the herd has been promised after the first so many.
func (p *powers) listen(after int, wait time.Duration) error {
	var heard []wire.Promise
	if err := p.Call("promises", wire.Promises{After: after, Wait: wait}, &heard); err != nil {
		return err
	}
	for _, one := range heard {
		if err := p.promised.take(one); err != nil {
			return err
		}
	}
	return nil
}

// commission lets new chargers come, and cuts the power when some of them, drawn by
// lot, have their address. In every third one the daemon is started anew meanwhile,
// which writes everything that it keeps.
func (p *powers) commission(n int) error {
	var heard []wire.Promise
	if err := p.Call("promises", wire.Promises{}, &heard); err != nil {
		return err
	}
	after, want, more := len(heard), p.dice.IntN(batch), time.Duration(p.dice.IntN(60))*time.Millisecond
	if n%3 == 2 {
		go p.Sh("systemctl restart --no-block chargegated") // whatever becomes of it: the power goes
	}
	first := p.next
	p.next += batch
	ctx, end := context.WithTimeout(p.ctx, 30*time.Second)
	defer end()
	done := make(chan error, 1)
	wires := p.guest.wire
	go func() {
		done <- wires.Call(ctx, "herd", wire.Herd{First: first, Clients: batch, Together: 4, Limit: 25 * time.Second}, nil)
	}()
	for got := 0; got < want; {
		heard = nil
		if err := p.Call("promises", wire.Promises{After: after + got, Wait: time.Second}, &heard); err != nil {
			return err
		}
		for _, one := range heard {
			if err := p.promised.take(one); err != nil {
				return err
			}
		}
		got += len(heard)
		select {
		case err := <-done:
			if err != nil || got < want {
				return fmt.Errorf("only %d of %d new chargers have an address: %w", got, batch, err)
			}
			done <- nil
		default:
		}
	}
	time.Sleep(more)
	if n >= cuts { // what nobody has flushed is what these cuts are about
		p.card.untilWaiting(3 * time.Second)
	}
	// QEMU first and then its card: a guest whose disk fails while it runs has time
	// to say things that no power cut lets it say.
	p.Cut()
	<-done
	return nil
}

// A ledger is what was promised: one address for each, and one for each address.
type ledger map[[6]byte]netip.Addr

// take enters a promise, unless it breaks an older one.
func (b ledger) take(p wire.Promise) error {
	if had, ok := b[p.MAC]; ok && had != p.Addr {
		return fmt.Errorf("% x had been promised %s and has %s now", p.MAC, had, p.Addr)
	}
	for mac, addr := range b {
		if addr == p.Addr && mac != p.MAC {
			return fmt.Errorf("%s had been promised to % x and was given to % x", addr, mac, p.MAC)
		}
	}
	b[p.MAC] = p.Addr
	return nil
}
