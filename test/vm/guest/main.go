// Command guest is the lab's hand inside the virtual machine: it does what the
// driver asks for over a virtio-serial port.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"chargegate/test/vm/wire"
)

// ops is everything that can be asked for.
var ops = map[string]wire.Op{
	"shell":    shell,
	"herd":     herdGo,
	"promises": promises,
	"unplug":   unplug,
	"cloud":    cloud,
	"stations": stations,
	"talk":     talk,
	"quiet":    quiet,
	"talkers":  talkers,
	"count":    count,
	"counting": counting,
	"counted":  counted,
	"beacons":  beacons,
	"signal":   signal,
	"say":      say,
	"wrong":    wrong,
	"watched":  watched,
}

func main() {
	log.SetFlags(0)
	if err := prepare(); err != nil {
		log.Print(err)
	}
	go func() { // lasts as long as the agent
		if err := watch(); err != nil {
			log.Print(err)
		}
	}()
	for {
		if err := serve(); err != nil {
			log.Print(err)
		}
		time.Sleep(50 * time.Millisecond) // nobody is there yet, or a snapshot was loaded
	}
}

// serve answers on the port until the driver lets go of it.
func serve() error {
	name, err := portFile("/sys/class/virtio-ports")
	if err != nil {
		return err
	}
	port, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer port.Close()
	return wire.Serve(port, ops)
}

// portFile finds the port by its name, without waiting for udev to give it one.
func portFile(class string) (string, error) {
	names, err := filepath.Glob(class + "/*/name")
	if err != nil {
		return "", err
	}
	for _, file := range names {
		if b, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(b)) == wire.Port {
			return "/dev/" + filepath.Base(filepath.Dir(file)), nil
		}
	}
	return "", fmt.Errorf("there is no port %s", wire.Port)
}

// shell runs a script in a process group of its own, all of which ends with its time.
func shell(ctx context.Context, args json.RawMessage) (any, error) {
	var a wire.Shell
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, err
	}
	if a.Timeout == 0 {
		a.Timeout = time.Minute
	}
	ctx, end := context.WithTimeout(ctx, a.Timeout)
	defer end()
	c := exec.CommandContext(ctx, "/bin/sh", "-c", a.Script)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = time.Second
	out, err := c.CombinedOutput()
	if ctx.Err() != nil {
		err = fmt.Errorf("not done after %v", a.Timeout)
	} else if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // something was left running in the background
	}
	if len(out) > wire.Longest/8 {
		out, err = out[:wire.Longest/8], errors.Join(err, io.ErrShortBuffer)
	}
	return string(out), err
}
