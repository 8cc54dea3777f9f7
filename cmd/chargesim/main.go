// Chargesim is a whole parking garage in network namespaces: the real gateway,
// simulated chargers, and a small Internet with the real protocols.
//
//	chargesim demo    the garage boots, one charger misbehaves; about 30 seconds
//	chargesim herd    how long N chargers take to come back after a power cut
//	chargesim bench   how quick the gateway is beside other programs of its kind
//	chargesim shell   the garage stays open, and you are in it
//
// It needs no hardware, and no root where user namespaces are allowed. All that
// it makes ends with it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"chargegate/pkg/sim"
)

const usage = `usage: chargesim demo|herd|bench|shell [flags]; each tells its flags with -h
`

func main() {
	if len(os.Args) < 2 && os.Getenv("CHARGEGATE_SIM_STAGE") == "" {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err := sim.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, "chargesim:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(run(ctx, os.Args[1], os.Args[2:]))
}

// run does what the word says, and returns the exit code.
func run(ctx context.Context, word string, args []string) int {
	do := map[string]func(context.Context, []string) error{"demo": demo, "herd": herd, "bench": benchmark, "shell": shell}[word]
	if do == nil {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	err := do(ctx, args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "\nchargesim %s: %v\n", word, err)
		return 1
	}
	return 0
}

// number is a flag's default: a number from the environment, else otherwise.
func number(key string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(key)); err == nil && n > 0 {
		return n
	}
	return otherwise
}
