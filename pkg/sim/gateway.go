package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A Gateway is the box itself, in a namespace of its own: the rendered files
// applied as the system would, a real chronyd, and the real daemon.
type Gateway struct {
	Space *Space
	// Config is the daemon's configuration file.
	Config string
	// Addresses are the gateway's own, by network.
	Addresses map[string]netip.Prefix
	// Daemon is the daemon that was started last.
	Daemon *Program
	// Holder plays systemd's part for it.
	Holder *Holder
	// Clock is chronyd; nil while stopped.
	Clock *Program
	// State is the directory where the daemon keeps its leases and names.
	State string
	// Resolv is the file that stands in the place of the gateway's resolv.conf.
	Resolv string
	// CPUs are those that the daemon may run on; nil: all.
	CPUs []int

	bin, dir string
	binds    map[string]string // what the gateway's programs see in the machine's place
	keep     atomic.Bool       // what the Holder has outlives the end of the daemon
	over     chan struct{}     // closed when the daemon has ended and the Holder knows it
}

// run is where the daemon puts its socket.
func (g *Gateway) run() string { return filepath.Join(g.dir, "run") }

// Socket is where the daemon answers the technician's tool.
func (g *Gateway) Socket() string { return filepath.Join(g.run(), "status.sock") }

// openGateway makes the gateway's namespace. Its side of the wires is made by
// the cloud and the site.
func openGateway(bin string) (*Gateway, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"chargegated", "chargegate"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			return nil, fmt.Errorf("finding the programs: %w; build them with: make build", err)
		}
	}
	space, err := newSpace("gw")
	if err != nil {
		return nil, err
	}
	g := &Gateway{Space: space, Addresses: map[string]netip.Prefix{}, bin: bin, dir: filepath.Join(Dir, "gw")}
	g.Config, g.State = filepath.Join(g.dir, "chargegate.toml"), filepath.Join(g.dir, "state")
	g.Resolv = filepath.Join(g.dir, "resolv.conf")
	g.binds = map[string]string{"/etc/resolv.conf": g.Resolv}
	return g, errors.Join(os.MkdirAll(g.run(), 0o755), writeFile(g.Resolv, "nameserver "+ResolverAddr+"\n"))
}

// configure writes the configuration and the inventory.
func (g *Gateway) configure(o Options) error {
	if err := writeFile(filepath.Join(g.dir, "chargers.csv"), inventory(o)); err != nil {
		return err
	}
	return writeFile(g.Config, configuration(o))
}

// prepare does what the system does before it starts the daemon: addresses as
// networkd would give them, the rules by nft, and only then traffic.
func (g *Gateway) prepare(ctx context.Context) error {
	out := filepath.Join(g.dir, "rendered")
	if text, err := g.Tool(ctx, "render", "-config", g.Config, "-out", out); err != nil {
		return fmt.Errorf("rendering: %w\n%s", err, text)
	}
	files, err := rendered(out)
	if err != nil {
		return err
	}
	for _, name := range switches {
		key, value, _ := strings.Cut(name, " ")
		if err := g.Space.sysctl(key, value); err != nil {
			return err
		}
	}
	if err := g.load(ctx, files); err != nil {
		return err
	}
	if err := g.Space.address(uplink, UplinkAddr+"/24"); err != nil {
		return err
	}
	for name, text := range files {
		if strings.HasSuffix(name, ".network") {
			if err := g.network(text); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return g.Space.defaultRoute(uplink, RouterAddr)
}

// switches are those of systemd/sysctl.d that belong to a network namespace.
var switches = []string{
	"net/ipv4/ip_forward 0", "net/ipv6/conf/all/forwarding 0",
	"net/ipv4/conf/all/accept_redirects 0", "net/ipv4/conf/all/send_redirects 0",
	"net/ipv4/conf/all/accept_source_route 0", "net/ipv4/conf/all/route_localnet 0",
	"net/ipv4/conf/all/arp_ignore 1", "net/ipv4/conf/all/arp_announce 2", "net/ipv4/icmp_ratelimit 0",
	"net/ipv4/tcp_mtu_probing 1",
	"net/ipv4/tcp_rmem 4096 131072 1048576", "net/ipv4/tcp_wmem 4096 16384 524288",
}

// rendered reads every file below dir, by its path there.
func rendered(dir string) (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, dir+"/")] = string(text)
		return err
	})
	return files, err
}

// load loads the rendered rules with the real nft.
func (g *Gateway) load(ctx context.Context, files map[string]string) error {
	for name, text := range files {
		if filepath.Base(name) != "nftables.conf" {
			continue
		}
		cmd, err := command("nft", "-f", "-")
		if err != nil {
			return err
		}
		cmd.Stdin = strings.NewReader(text)
		if said, err := g.Space.output(ctx, cmd); err != nil {
			return fmt.Errorf("loading %s: %w\n%s", name, err, said)
		}
		return nil
	}
	return fmt.Errorf("the configuration rendered no nftables.conf")
}

// network does what networkd would with one .network file of ours: the
// addresses, and no IPv6 where the file wants none of it.
func (g *Gateway) network(text string) error {
	said := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			said[key] = value
		}
	}
	name := said["Name"]
	addr, err := netip.ParsePrefix(said["Address"])
	if err != nil {
		return fmt.Errorf("reading the address of %s: %w", name, err)
	}
	if said["LinkLocalAddressing"] == "no" && said["IPv6AcceptRA"] == "no" {
		if err := g.Space.sysctl("net/ipv6/conf/"+name+"/disable_ipv6", "1"); err != nil {
			return err
		}
	}
	g.Addresses[name] = addr
	return g.Space.address(name, addr.String())
}

// Address is the gateway's own address in a network.
func (g *Gateway) Address(network string) netip.Addr {
	return g.Addresses[ifaceOf(network)].Addr()
}

// StartClock runs a real chronyd that follows the cloud's, and never touches
// the machine's clock. It polls far more often than one on a real box, so that
// a garage is ready in a second and not in seven.
func (g *Gateway) StartClock(ctx context.Context) error {
	if g.Clock != nil {
		return nil
	}
	file := filepath.Join(g.dir, "chrony.conf")
	err := writeFile(file, fmt.Sprintf(`server %s minpoll -4 maxpoll -2
port 0
cmdport 323
bindcmdaddress 127.0.0.1
pidfile %s/chrony.pid
`, TimeAddr, g.dir))
	if err != nil {
		return err
	}
	g.Clock, err = g.Space.launchChronyd("chrony", file)
	if err != nil {
		return err
	}
	return waitFor(ctx, "chronyd to answer", g.Clock, func() bool {
		_, err := g.chronyc(ctx, "tracking")
		return err == nil
	})
}

// StopClock stops chronyd, as a crash of it would.
func (g *Gateway) StopClock() {
	g.Clock.Stop()
	g.Clock = nil
}

// WaitClock waits until the daemon says that the time is known, or that it is
// not known.
func (g *Gateway) WaitClock(ctx context.Context, known bool) error {
	what := "the daemon to know the time"
	if !known {
		what = "the daemon to know that it does not know the time"
	}
	return waitFor(ctx, what, g.Daemon, func() bool {
		text, err := g.Tool(ctx, "status", "-json")
		var answer struct {
			Clock struct {
				Synchronised bool `json:"synchronised"`
			} `json:"clock"`
		}
		return err == nil && json.Unmarshal([]byte(text), &answer) == nil && answer.Clock.Synchronised == known
	})
}

func (g *Gateway) chronyc(ctx context.Context, args ...string) (string, error) {
	cmd, err := command("chronyc", append([]string{"-n", "-h", "127.0.0.1"}, args...)...)
	if err != nil {
		return "", err
	}
	return g.Space.output(ctx, cmd)
}

// daemonCaps are the capabilities that the daemon's unit gives it. In the
// garage it is root and has no other ones either: what the kernel allows only those
// who have CAP_SYS_RESOURCE or CAP_SYS_ADMIN (pipe(7), pipe-user-pages-soft) it is
// not allowed here either, though it shares its bounds with all that root runs.
var daemonCaps = []int{unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_RAW}

// StartDaemon starts the daemon, which finds nothing kept from the one before, and
// waits until it tells systemd, whose part the Holder plays, that it is ready. It
// returns how long that took.
func (g *Gateway) StartDaemon(ctx context.Context) (time.Duration, error) {
	if g.Daemon != nil {
		select {
		case <-g.over:
		case <-ctx.Done():
			return 0, fmt.Errorf("the daemon before this one has not ended: %w", ctx.Err())
		}
	}
	if g.Holder == nil {
		var err error
		if g.Holder, err = openHolder(filepath.Join(g.dir, "notify.sock")); err != nil {
			return 0, err
		}
	}
	if err := g.Holder.catchUp(ctx); err != nil {
		return 0, err
	}
	g.Holder.release()
	return g.start(ctx)
}

// start starts the daemon with what the Holder has.
func (g *Gateway) start(ctx context.Context) (time.Duration, error) {
	cmd := exec.Command(filepath.Join(g.bin, "chargegated"), "-config", g.Config, "-state", g.State, "-run", g.run())
	// The cloud's authority stands where the machine's own would, so that doctor
	// sees what it sees on a real site.
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+filepath.Join(Dir, authorityFile))
	passed, err := g.Holder.pass(cmd)
	if err != nil {
		return 0, err
	}
	defer passed()
	began := time.Now()
	ready := g.Holder.expect()
	if g.Daemon, err = g.Space.launch("chargegated", cmd, disguise{Binds: g.binds, Caps: daemonCaps, CPUs: g.CPUs}); err != nil {
		return 0, err
	}
	g.over = make(chan struct{})
	go func(p *Program, over chan<- struct{}) {
		defer close(over)
		<-p.Ended()
		if !g.keep.Load() {
			g.Holder.release() // as systemd does with a service that has ended for good
		}
	}(g.Daemon, g.over)
	select {
	case <-ready:
	case <-g.Daemon.Ended():
		err = fmt.Errorf("the daemon ended with %d before it was ready; its last words:\n%s", g.Daemon.Exit(), g.Daemon.Last(10))
	case <-ctx.Done():
		err = fmt.Errorf("waiting for the daemon to be ready: %w; its last words:\n%s", ctx.Err(), g.Daemon.Last(10))
	}
	return time.Since(began), err
}

// Tool runs `chargegate` on the gateway, against the daemon's socket, and
// returns what it printed. An exit code of 1 is an answer, not an error: it
// means that something needs attention.
func (g *Gateway) Tool(ctx context.Context, args ...string) (string, error) {
	all := args
	if args[0] != "render" {
		all = append([]string{"-socket", g.Socket()}, args...)
	}
	said, err := g.Space.output(ctx, exec.Command(filepath.Join(g.bin, "chargegate"), all...))
	if exitCode(err) == 1 && args[0] != "render" {
		return said, nil
	}
	return said, err
}

// output runs cmd in the namespace until it ends or ctx is done, and returns
// everything that it printed.
func (s *Space) output(ctx context.Context, cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	if err := s.start(cmd); err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer stop()
	err := cmd.Wait()
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return out.String(), err
}

func (g *Gateway) close() {
	g.Daemon.Stop()
	g.Holder.close()
	g.Clock.Stop()
	g.Space.close()
}
