package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"chargegate/test/vm/image"
	"chargegate/test/vm/wire"
)

// A Machine says how a guest differs from the usual one.
type Machine struct {
	// Root is the disk as -drive takes it ("file=...,format=raw"). "": an overlay
	// that is thrown away with the scenario, which does not outlive a power cut.
	Root string
	// Append goes to the kernel's command line.
	Append string
	// RTC is what the clock of the hardware says ("base=1970-01-01"). "": the time.
	RTC string
	// Reboots lets the guest start again where QEMU would end otherwise.
	Reboots bool
	// Extra goes to QEMU's command line.
	Extra []string
}

// machine is a QEMU that runs.
type machine struct {
	wire    *wire.Client
	qmp     *qmp
	overlay string // "" where the scenario brought its own disk
	began   time.Time
	stop    context.CancelFunc
	ended   chan struct{} // closed when QEMU has ended
	err     error         // why, once it has
}

// usual is what every kernel is told: little to print, no names that depend on the
// machine, and a panic is an end.
const usual = "console=hvc0 quiet loglevel=4 audit=0 apparmor=0 systemd.tty.term.hvc0=dumb panic=-1 net.ifnames=0 mitigations=off" +
	" systemd.show_status=0 nowatchdog no_timer_check cryptomgr.notests random.trust_bootloader=on"

// start runs QEMU, from a snapshot where one is named, for no longer than ctx lasts.
func start(ctx context.Context, b image.Built, dir, overlay, snapshot string, m Machine) (*machine, error) {
	// A socket's name has 107 bytes at most: not below the scenario's own name.
	socks, err := os.MkdirTemp(filepath.Dir(dir), "s")
	if err != nil {
		return nil, err
	}
	command := "qemu-system-x86_64"
	// One processor: with two, QEMU's now and then ran into the breakpoint that the
	// other had set to change the kernel's code, and the kernel gave up (Oops: int3).
	// The machine's second processor is the second guest's.
	args := []string{"-M", "q35", "-accel", "tcg", "-cpu", "qemu64", "-smp", "1", "-m", "768",
		"-display", "none", "-nodefaults", "-no-user-config",
		"-kernel", b.Kernel, "-initrd", b.Initrd, "-append", usual + " " + m.Append,
		"-device", "virtio-serial-pci",
		"-chardev", "file,id=console,append=on,path=" + dir + "/console.log", "-device", "virtconsole,chardev=console",
		"-chardev", "socket,id=lab,path=" + socks + "/lab,server=on,wait=off", "-device", "virtserialport,chardev=lab,name=" + wire.Port,
		"-qmp", "unix:" + socks + "/qmp,server=on,wait=off",
		"-device", "pcie-root-port,id=reader,chassis=1", // for a card that is put in later
		"-device", "virtio-rng-pci", "-device", "i6300esb", "-action", "watchdog=reset"}
	if m.Root == "" {
		m.Root = "format=qcow2,cache=unsafe,file=" + overlay
	}
	args = append(args, "-drive", "if=none,id=root,"+m.Root, "-device", "virtio-blk-pci,drive=root")
	if m.RTC != "" {
		args = append(args, "-rtc", m.RTC)
	}
	if !m.Reboots {
		args = append(args, "-no-reboot")
	}
	if snapshot != "" {
		args = append(args, "-loadvm", snapshot)
	}
	args = append(args, m.Extra...)

	g := &machine{overlay: overlay, ended: make(chan struct{}), began: time.Now()}
	ctx, g.stop = context.WithCancel(ctx)
	c := exec.CommandContext(ctx, command, args...)
	log, err := os.OpenFile(filepath.Join(dir, "qemu.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	c.Stdout, c.Stderr = log, log
	// QEMU ends with the thread that started it, whatever becomes of the driver.
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(g.ended)
		defer os.RemoveAll(socks)
		defer log.Close()
		err := c.Start()
		started <- err
		if err == nil {
			g.err = c.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	if err := g.connect(ctx, socks); err != nil {
		g.kill()
		said, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("starting QEMU: %w\n%s", err, said)
	}
	return g, nil
}

func (g *machine) connect(ctx context.Context, socks string) error {
	ctx, end := context.WithTimeout(ctx, 20*time.Second)
	defer end()
	go func() { // do not wait for a QEMU that is over
		select {
		case <-g.ended:
			end()
		case <-ctx.Done():
		}
	}()
	port, err := dial(ctx, socks+"/lab")
	if err != nil {
		return err
	}
	g.wire = wire.NewClient(port)
	g.qmp, err = openQMP(ctx, socks+"/qmp")
	return err
}

// kill is a power cut.
func (g *machine) kill() {
	g.stop()
	<-g.ended
	if g.qmp != nil {
		g.qmp.conn.Close()
	}
	if g.wire != nil {
		g.wire.Close()
	}
}

// places is how many guests run on one machine at once, of however many checkouts:
// each has a processor of its own, and more would take it from the others.
const places = 2

// place waits for one; give it back by closing it. Who waits is in the kernel's queue
// for each of them: a driver that runs one scenario after the other would else be
// quicker every time.
func place(ctx context.Context, cache string, say func(string, ...any)) (*os.File, error) {
	type place struct {
		*os.File
		err error
	}
	free := make(chan place)
	over := make(chan struct{})
	defer close(over)
	for i := range places {
		f, err := os.OpenFile(fmt.Sprintf("%s/place-%d", cache, i), os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, err
		}
		go func() { // ends when the place is free, at the latest with the driver
			err := flock(f)
			select {
			case free <- place{f, err}:
			case <-over:
				f.Close()
			}
		}()
	}
	patience := time.NewTicker(30 * time.Second)
	defer patience.Stop()
	soon := time.After(250 * time.Millisecond)
	for {
		select {
		case p := <-free:
			if p.err != nil {
				p.Close()
				return nil, p.err
			}
			return p.File, nil
		case <-soon:
		case <-patience.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		say("%d guests of others run on this machine; waiting for a place", places)
	}
}

// flock locks a file, however often a signal comes between.
func flock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
