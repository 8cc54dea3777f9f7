package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"chargegate/pkg/sim"
)

// shell opens a garage and runs a shell, or a command, inside.
func shell(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("shell", flag.ContinueOnError)
	bin := f.String("bin", "bin", "the `directory` of chargegated and chargegate")
	n := f.Int("n", 3, "how many chargers")
	if err := f.Parse(args); err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	garage, err := sim.Start(starting, sim.Options{
		Bin: *bin, Networks: []sim.Network{{Name: "P1", Chargers: *n}}, Guests: []sim.Guest{{Name: "guest", Network: "P1"}},
		Habits: sim.Brisk(), LogLevel: "debug", Progress: steps{},
	})
	if err != nil {
		return err
	}
	defer garage.Close()
	if _, err := garage.Host("guest"); err != nil {
		return err
	}
	garage.PowerOn()
	programs, err := filepath.Abs(*bin)
	if err != nil {
		return err
	}
	fmt.Printf(`
  ip netns exec gw bash           the gateway: chargegate status works there
  ip netns exec cloud bash        the Internet
  ip netns exec host-guest bash   a device with the interface wlan0 and no address yet
  tail -f %s   the daemon's log
  exit ends it all.

`, garage.Gateway.Daemon.File)
	command := f.Args()
	if len(command) == 0 {
		command = []string{"bash", "-i"}
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "PATH="+programs+":/usr/sbin:/sbin:"+os.Getenv("PATH"), "CHARGEGATE_SOCKET="+garage.Gateway.Socket(), "SSL_CERT_FILE="+garage.Cloud.Authority.File)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}
