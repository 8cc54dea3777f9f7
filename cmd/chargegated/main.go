// Chargegated is the network box in the parking garage: it gives chargers an
// address, names, the time and a way to the cloud, and watches over each of
// them.
//
//	chargegated [-config FILE] [-state DIR] [-run DIR]
//	chargegated -check      say every fault of the configuration, and what
//	                        deserves a look, and end
//	chargegated -version
//
// SIGHUP takes over what can change without closing anything; SIGTERM ends
// within five seconds. Exit codes: 0 asked to stop, 1 configuration, 2 a socket
// or a permission, 3 a service kept failing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"chargegate/pkg/config"
	"chargegate/pkg/run"
)

// Exit codes, relied upon by systemd units and people (docs/design.md, 5).
const (
	exitStopped = iota
	exitConfig
	exitSocket
	exitService
)

// version is set by the linker (make build).
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(chargegated(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func chargegated(ctx context.Context, args []string, out, complain io.Writer) int {
	o, err := parse(args, complain)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(out, usage)
		return exitStopped
	}
	if err != nil {
		return exitConfig
	}
	if o.version {
		fmt.Fprintln(out, "chargegated", buildVersion())
		return exitStopped
	}
	cfg, err := config.Load(o.config)
	if o.check {
		return check(cfg, err, machine{interfaces: interfaces(), running: runs(o.run), reviveOff: reviveOff()}, out, complain)
	}
	h, err := open(cfg, err, o, complain)
	if err == nil {
		err = h.serve(ctx)
	}
	return exitCode(err)
}

// exitCode tells systemd and scripts what ended the daemon. What it was has
// been said as an event already.
func exitCode(err error) int {
	var faults config.Faults
	switch {
	case err == nil:
		return exitStopped
	case errors.As(err, &faults):
		return exitConfig
	case errors.Is(err, run.ErrGaveUp):
		return exitService
	}
	return exitSocket
}

type options struct {
	config, state, run string
	check, version     bool
}

// parse reads the command line. Under systemd the directories come from the
// unit's StateDirectory= and RuntimeDirectory=.
func parse(args []string, complain io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("chargegated", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.config, "config", "/etc/chargegate/chargegate.toml", "")
	f.StringVar(&o.state, "state", env("STATE_DIRECTORY", "/var/lib/chargegate"), "")
	f.StringVar(&o.run, "run", env("RUNTIME_DIRECTORY", "/run/chargegate"), "")
	f.BoolVar(&o.check, "check", false, "")
	f.BoolVar(&o.version, "version", false, "")
	if err := f.Parse(args); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintf(complain, "chargegated: %v; chargegated -h says what there is\n", err)
		}
		return o, err
	}
	if f.NArg() > 0 {
		err := fmt.Errorf("%q is not understood; everything is said by -config, -state, -run, -check and -version", f.Arg(0))
		fmt.Fprintln(complain, "chargegated:", err)
		return o, err
	}
	return o, nil
}

func env(key, otherwise string) string {
	if v := os.Getenv(key); v != "" {
		return v
	}
	return otherwise
}

// buildVersion is the linker's version, or the module's where go install built
// it.
func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && version == "unknown" && info.Main.Version != "" {
		return info.Main.Version
	}
	return version
}
