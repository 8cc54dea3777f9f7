// Chargegate is the technician's tool: it asks the daemon how the chargers are
// and says it in a few lines, with what to do where something is stuck.
//
// It holds no state and changes nothing but the files of render. Whatever comes
// from the daemon is made safe for the terminal before it is printed: some of
// it was written by strangers.
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
	"strings"
	"syscall"

	"chargegate/pkg/config"
)

// Exit codes, relied upon by scripts (docs/design.md, 5).
const (
	exitWell      = iota // all is well
	exitAttention        // something needs attention
	exitNoAnswer         // the question could not be asked or answered
)

// defaultSocket is where the daemon answers when systemd has started it.
const defaultSocket = "/run/chargegate/status.sock"

// version is set by the linker (make build).
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(chargegate(ctx, os.Args[1:], detect(os.Stdout, os.Getenv), os.Stderr))
}

// A command is one word that the tool knows.
type command struct {
	name, args, what string
	run              func(ctx context.Context, c *call, fs *flag.FlagSet, args []string) (int, error)
}

// A call is one use of the tool.
type call struct {
	*terminal
	socket string
	json   bool
}

func commands() []command {
	return []command{
		{"status", "[-watch]", "how the house and each charger is, in one page", runStatus},
		{"chargers", "", "every charger and every stranger, with all that is known", runChargers},
		{"charger", "NAME|MAC|ADDRESS", "everything about one, with its last events", runCharger},
		{"doctor", "", "test this box and its way out, now; takes up to half a minute", runDoctor},
		{"events", "[-follow] [-charger NAME] [-level LEVEL] [-n COUNT]", "what happened", runEvents},
		{"render", "[-config FILE] [-out DIR] [-check]", "write the files of nftables, hostapd and networkd", runRender},
		{"plan", "[-config FILE] [-chargers COUNT]", "what the configuration comes to and what does not fit; or a garage for so many", runPlan},
		{"survey", "[-config FILE] [-network NAME] [-interrupt]", "listen to channels 1 to 11, and advise one of 1, 6 and 11; -interrupt takes a radio that serves", runSurvey},
	}
}

// services are the commands that systemd runs. Each has its usage, and none stands
// among what a technician asks for.
func services() []command {
	return []command{
		{"revive", "[-config FILE] [-state DIR] [-kmsg FILE] [-every 10s] [-silent 1m] [-settle 20s] [-mute 5m] [-empty 10m] [-wait 2m] [-boot 3m]",
			"watch over the radios, and bring dead ones back as far as revive of [network.radio] allows; systemd runs it as chargegate-revive.service\n\n" +
				"-every: between two looks; -silent: how long hostapd may not serve; -settle: how long the driver may help itself;\n" +
				"-mute: how long the driver may keep the daemon without an answer; -empty: how long nobody may be there who was; -wait: how long a step may take to help; -boot: how long nothing is done after a boot", runRevive},
	}
}

// chargegate is the whole tool; it returns the exit code.
func chargegate(ctx context.Context, args []string, t *terminal, complain io.Writer) int {
	fs := flags("chargegate")
	c := &call{terminal: t}
	fs.StringVar(&c.socket, "socket", defaultSocket, "")
	fs.BoolVar(&c.json, "json", false, "")
	showVersion := fs.Bool("version", false, "")
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp), err == nil && fs.Arg(0) == "help":
		usage(t)
		return exitWell
	case err != nil:
		fmt.Fprintf(complain, "chargegate: %s. See: chargegate -h\n", safe(err.Error()))
		return exitNoAnswer
	case *showVersion:
		fmt.Fprintln(t, "chargegate", buildVersion())
		return exitWell
	case fs.NArg() == 0:
		usage(complain)
		return exitNoAnswer
	}
	for _, cmd := range append(commands(), services()...) {
		if cmd.name == fs.Arg(0) {
			return c.do(ctx, cmd, fs.Args()[1:], complain)
		}
	}
	fmt.Fprintf(complain, "chargegate: %s is not one of its words: %s\n", safe(fs.Arg(0)), words())
	return exitNoAnswer
}

// do runs one command and says what went wrong.
func (c *call) do(ctx context.Context, cmd command, args []string, complain io.Writer) int {
	fs := flags("chargegate " + cmd.name)
	fs.StringVar(&c.socket, "socket", c.socket, "")
	fs.BoolVar(&c.json, "json", c.json, "")
	code, err := cmd.run(ctx, c, fs, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(c, "usage: chargegate %s [-json]\n\n%s\n", strings.TrimSpace(cmd.name+" "+cmd.args), cmd.what)
		return exitWell
	case err != nil && ctx.Err() != nil && !errors.As(err, new(errLeft)):
		return exitNoAnswer // somebody pressed ^C and knows it
	case err != nil:
		var faults config.Faults
		if !errors.As(err, &faults) { // these begin with the file, for editors
			fmt.Fprint(complain, "chargegate: ")
		}
		fmt.Fprintln(complain, lines(err.Error()))
	}
	return code
}

// flags makes an empty set of flags that prints nothing by itself.
func flags(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	return fs
}

// errUsage says that the words of the command line do not fit together.
type errUsage string

func (e errUsage) Error() string { return string(e) + ". See: chargegate -h" }

// parse reads a command's flags, before, after and between the want words that
// it takes, and returns these.
func parse(fs *flag.FlagSet, args []string, want int) ([]string, error) {
	var rest []string
	for {
		if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
			return nil, err
		} else if err != nil {
			return nil, errUsage(err.Error())
		}
		if fs.NArg() == 0 {
			break
		}
		rest, args = append(rest, fs.Arg(0)), fs.Args()[1:]
	}
	if len(rest) > want {
		return nil, errUsage(fmt.Sprintf("%q is one word too many for %s", rest[want], fs.Name()))
	}
	if len(rest) < want {
		return nil, errUsage(fs.Name() + " needs to know of whom")
	}
	return rest, nil
}

func usage(w io.Writer) {
	fmt.Fprint(w, `chargegate asks the network box how its chargers are.

usage: chargegate [-socket FILE] COMMAND [-json]

`)
	for _, cmd := range commands() {
		fmt.Fprintf(w, "  %s\n        %s\n", strings.TrimSpace(cmd.name+" "+cmd.args), cmd.what)
	}
	fmt.Fprintf(w, `
  -json         the daemon's answer as it is, for scripts
  -socket FILE  where the daemon answers; %s
  -version      which chargegate this is

A charger's stage names the step that is missing: wifi, dhcp, dns, time, cloud;
ok when it talks with the cloud. NO_COLOR=1 switches colours off.

exit codes: 0 all is well, 1 something needs attention, 2 could not ask
`, defaultSocket)
}

func words() string {
	var out []string
	for _, cmd := range commands() {
		out = append(out, cmd.name)
	}
	return strings.Join(out, ", ")
}

// buildVersion is what the linker was told, else what Go knows of the commit.
func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && version == "unknown" && info.Main.Version != "" {
		return info.Main.Version
	}
	return version
}

// attention is the exit code for whether all is well.
func attention(well bool) int {
	if well {
		return exitWell
	}
	return exitAttention
}
