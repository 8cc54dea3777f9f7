package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"chargegate/test/vm/wire"
)

// privilegeScenarios are those of what the installed service may do (J).
func privilegeScenarios() []Scenario {
	return []Scenario{{
		Name: "rights", What: "the daemon is nobody but itself: its user, two capabilities, its own directories", From: "booted", Limit: 60 * time.Second, Run: rights,
	}, {
		Name: "ports", What: "nmap finds nothing from the uplink, and from the garage the ports of the README", From: "booted", Limit: 120 * time.Second, Run: ports,
	}}
}

// mayWrite is every place where the daemon may, as the unit says: two directories
// of its own, and its private temporary ones.
var mayWrite = []string{"/run/chargegate", "/tmp", "/var/lib/chargegate", "/var/tmp"}

// question are files by which anybody puts a question to the kernel, and changes
// nothing but the answer; and by which systemd tells a service that memory is short.
var question = regexp.MustCompile(`^/sys/(fs/selinux/|kernel/security/|fs/cgroup/.*/memory\.pressure$)`)

func rights(l *Lab) error {
	return errors.Join(l.identity(), l.writable())
}

// identity reads from /proc who each thread of the daemon is, and what it may do.
func (l *Lab) identity() error {
	want, err := l.Sh(`id -u chargegate; id -g chargegate`)
	if err != nil {
		return err
	}
	ids := strings.Fields(want)
	all, err := l.Sh(`cd "/proc/$(systemctl show --value -p MainPID chargegated)/task" && grep -hE '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp):' */status`)
	if err != nil {
		return err
	}
	// Bit 10 is CAP_NET_BIND_SERVICE, bit 13 CAP_NET_RAW (capabilities(7)).
	const two = "0000000000002400"
	threads := 0
	var wrong []string
	for line := range strings.Lines(all) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		fields := strings.Fields(value)
		allowed := map[string]string{
			"Uid": strings.Repeat(ids[0]+" ", 4), "Gid": strings.Repeat(ids[1]+" ", 4), "Groups": ids[1],
			"CapInh": two, "CapPrm": two, "CapEff": two, "CapBnd": two, "CapAmb": two, "NoNewPrivs": "1", "Seccomp": "2",
		}
		if key == "Uid" {
			threads++
		}
		if ok && allowed[key] != "" && strings.Join(fields, " ") != strings.TrimSpace(allowed[key]) {
			wrong = append(wrong, strings.TrimSpace(line))
		}
	}
	if ids[0] == "0" || threads < 2 || !strings.Contains(all, "CapEff") {
		return fmt.Errorf("user %s, %d threads:\n%s", ids[0], threads, all)
	}
	slices.Sort(wrong)
	l.Note("user %s, %d threads, each with the capabilities %s, no new privileges, and a filter of system calls", ids[0], threads, two)
	return none("not as it should be", strings.Join(slices.Compact(wrong), "\n"))
}

// writable tries from within the daemon's own view of the file system, as its
// user: it asks the kernel of every directory there is, and then tries some.
func (l *Lab) writable() error {
	const within = `nsenter --mount --target "$(systemctl show --value -p MainPID chargegated)" setpriv --reuid chargegate --regid chargegate --init-groups --inh-caps=-all `
	found, err := l.Sh(within + `find / \( -path /proc -o -path /run/chargegate -o -path /var/lib/chargegate -o -path /tmp -o -path /var/tmp \) -prune -print -o \( -type d -o -type f -o -type b \) -writable -print 2>/dev/null; true`)
	if err != nil {
		return err
	}
	var more []string
	for _, name := range strings.Fields(found) {
		if name != "/proc" && !question.MatchString(name) && !slices.Contains(mayWrite, name) {
			more = append(more, name)
		}
	}
	tried, err := l.Sh(`cat >/run/lab-try <<'END'
for d in / /etc /etc/chargegate /etc/systemd/system /usr/bin /usr/lib/systemd /var /var/lib /var/lib/chrony /var/log /run /run/hostapd /run/systemd /run/chargegate-rendered /home /root /boot /run/lock /dev /dev/shm /dev/mqueue /sys/kernel /sys/fs/cgroup; do
	(: >"$d/lab-was-here") 2>/dev/null && echo "$d"
done
for f in /proc/sys/net/ipv4/ip_forward /proc/sysrq-trigger /proc/sys/kernel/core_pattern /sys/class/net/wlan0/mtu /etc/chargegate/chargegate.toml; do
	(echo 1 >>"$f") 2>/dev/null && echo "$f"
done
for d in /run/chargegate /var/lib/chargegate /tmp /var/tmp; do
	(: >"$d/lab-was-here" && rm "$d/lab-was-here") 2>/dev/null || echo "not even $d"
done
true
END
` + within + `sh -c "$(cat /run/lab-try)"; rm /run/lab-try`)
	if err != nil {
		return err
	}
	l.Note("what its user can write in its own view of the file system: %s", strings.Join(mayWrite, " "))
	return errors.Join(none("the daemon's user may write more", strings.Join(more, "\n")), none("the daemon's user could write, or not write", tried))
}

// Open ports as the README lists them. The firewall leads 443 and 8883 to egress.
var (
	openTCP = []string{"53/tcp", "443/tcp", "8883/tcp"}
	openUDP = []string{"53/udp", "67/udp", "123/udp"}
)

// ports scans from both sides at once.
func ports(l *Lab) error {
	if _, err := l.Sh(`ip -n site addr replace 10.83.16.250/24 dev eth0`); err != nil {
		return err
	}
	// What the box listens on, wherever, is scanned, too: nobody shall be spared
	// for having an odd number.
	listening, err := l.Sh(`ss -Hlntu | sed 's/.*:\([0-9][0-9]*\) .*/\1/; s/ .*//' | sort -nu`)
	if err != nil {
		return err
	}
	odd := ""
	for _, port := range strings.Fields(listening) {
		if regexp.MustCompile(`^[0-9]+$`).MatchString(port) {
			odd += "," + port
		}
	}
	scan := func(space, gateway string) (string, error) {
		var out string
		err := l.Call("shell", wire.Shell{Timeout: 100 * time.Second, Script: fmt.Sprintf(
			`ip netns exec %s nmap -n -Pn -sS -sU -T4 --min-rate 100 --max-retries 1 -p T:21-25,53,80,111,123,139,443,445,1883,3000,5355,8000,8080,8443,8883,9090,9100,9180%s,U:53,67-69,111,123,137,161,323,500,514,1900,5353,5355%s -oG - %s`,
			space, odd, odd, gateway)}, &out)
		return out, err
	}
	type result struct {
		out string
		err error
	}
	outside := make(chan result)
	go func() {
		out, err := scan("cloud", "203.0.113.2")
		outside <- result{out, err}
	}()
	garage, err := scan("site", "10.83.16.1")
	uplink := <-outside
	if err := errors.Join(err, uplink.err); err != nil {
		return err
	}
	fromUplink, fromGarage := openPorts(uplink.out), openPorts(garage)
	l.Note("open from the uplink: %d; from the garage: %s; the box itself listens on %s", len(fromUplink), strings.Join(fromGarage, " "), strings.TrimPrefix(odd, ","))
	var errs []error
	if len(fromUplink) > 0 || !strings.Contains(uplink.out, "Ports:") {
		errs = append(errs, fmt.Errorf("from the uplink:\n%s", uplink.out))
	}
	for _, port := range fromGarage {
		if !slices.Contains(slices.Concat(openTCP, openUDP), port) {
			errs = append(errs, fmt.Errorf("%s is open to the garage, and the README does not list it", port))
		}
	}
	for _, port := range openTCP { // who finds nothing may have looked in vain
		if !slices.Contains(fromGarage, port) {
			errs = append(errs, fmt.Errorf("%s is not open to the garage:\n%s", port, garage))
		}
	}
	return errors.Join(errs...)
}

// openPorts are those that surely answered, of nmap's greppable output: "53/tcp".
func openPorts(out string) (open []string) {
	for _, m := range regexp.MustCompile(`(\d+)/open/(tcp|udp)/`).FindAllStringSubmatch(out, -1) {
		open = append(open, m[1]+"/"+m[2])
	}
	return open
}
