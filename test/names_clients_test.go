package garage

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/sim"
)

// nameClients lets programs that others have written ask for names: the tools of
// three projects, and the resolvers that programs on small computers are linked
// with.
func nameClients(t *testing.T) {
	h := connected(t, desk)
	t.Run("the tools", func(t *testing.T) { nameTools(t, h) })
	t.Run("what a forwarder has to understand (RFC 8906)", func(t *testing.T) { compliance(t, h) })
	t.Run("cookies", func(t *testing.T) { cookies(t, h) })
	t.Run("the room that a client has", func(t *testing.T) { sizes(t, h) })
	t.Run("stub resolvers", func(t *testing.T) { stubs(t, h) })
	unharmed(t)
}

// nameTools asks the same with the tools of three projects.
func nameTools(t *testing.T, h *sim.Host) {
	gw := garage.Gateway.Address("P1").String()
	for _, over := range []string{"+notcp", "+tcp"} {
		do(t, h, `gateway-prod[^\n]*\n`+sim.HubAddr, "kdig", over, "+short", "@"+gw, sim.Hub)
		do(t, h, `status: NXDOMAIN[\s\S]*EDE: 15`, "kdig", over, "+edns", "@"+gw, sim.Elsewhere)
		do(t, h, `status: NOERROR[\s\S]*ANSWER: 0`, "kdig", over, "@"+gw, sim.API, "AAAA")
		do(t, h, `^`+regexp.QuoteMeta(gw)+`\n`, "kdig", over, "+short", "@"+gw, "pool.ntp.org")
	}
	for _, over := range []string{"-u", "-t"} {
		do(t, h, `rcode: NOERROR[\s\S]*\sA\s+`+sim.HubAddr, "drill", over, sim.Hub, "@"+gw)
		do(t, h, `rcode: NXDOMAIN`, "drill", over, sim.Elsewhere, "@"+gw)
		do(t, h, `\sA\s+`+regexp.QuoteMeta(gw), "drill", over, "no.pool.ntp.org", "@"+gw)
	}
	do(t, h, `rcode: NOERROR[\s\S]*\sA\s+`+sim.HubAddr, "drill", "-D", sim.Hub, "@"+gw) // asks for signatures, too
	t.Run("the gateway's own name", func(t *testing.T) {
		do(t, h, `^gateway\.\n$`, "dig", "+short", "-x", gw, "@"+gw)
		do(t, h, `^gateway\.\n$`, "kdig", "+short", "-x", gw, "@"+gw)
		do(t, h, `\sPTR\s+gateway\.`, "drill", "-x", gw, "@"+gw)
		do(t, h, `^`+regexp.QuoteMeta(gw)+`\n$`, "dig", "+short", "gateway.", "@"+gw)
	})
}

// compliance asks what RFC 8906, section 8, asks of a server, as far as it applies
// to one that forwards.
func compliance(t *testing.T, h *sim.Host) {
	gw := garage.Gateway.Address("P1").String()
	const (
		answered = `status: NOERROR[\s\S]*\sA\s+` + sim.HubAddr
		nothing  = `status: NOERROR[\s\S]*ANSWER: 0`
		noEDNS   = `OPT PSEUDOSECTION`
		edns0    = `OPT PSEUDOSECTION:\n; EDNS: version: 0, flags:[a-z ]*; udp: 1232`
	)
	for _, c := range []struct {
		what string
		ask  string // besides the name
		want string
		not  string // what may not be printed; empty: anything may
	}{
		{"plain (8.1.1)", "+noedns +noad", answered, noEDNS},
		{"unknown type (8.1.2)", "+noedns +noad -t TYPE1000", nothing, noEDNS},
		{"CD (8.1.3.1)", "+noedns +noad +cd", answered, noEDNS},
		{"AD (8.1.3.2)", "+noedns +ad", answered, `flags:[^;]* ad`},
		{"reserved bit (8.1.3.3)", "+noedns +noad +zflag", answered, `MBZ`},
		{"unknown opcode (8.1.4)", "+noedns +noad +opcode=15 +header-only", `status: NOTIMP[\s\S]*QUERY: 0, ANSWER: 0`, `QUESTION SECTION`},
		{"TCP (8.1.5)", "+noedns +noad +tcp", answered, noEDNS},
		{"EDNS (8.2.1)", "+nocookie +edns=0 +noad", answered, ""},
		{"EDNS, its version (8.2.1)", "+nocookie +edns=0 +noad", edns0, ""},
		{"EDNS version 1 (8.2.2)", "+nocookie +edns=1 +noednsneg +noad", `status: BADVERS[\s\S]*EDNS: version: 0`, sim.HubAddr},
		{"unknown option (8.2.3)", "+nocookie +edns=0 +noad +ednsopt=100:abcd", answered, `OPT=100`},
		{"unknown flag (8.2.4)", "+nocookie +edns=0 +noad +ednsflags=0x40", answered, `MBZ`},
		{"EDNS version 1, unknown flag (8.2.5)", "+nocookie +edns=1 +noednsneg +noad +ednsflags=0x40", `status: BADVERS[\s\S]*EDNS: version: 0`, `MBZ`},
		{"EDNS version 1, unknown option (8.2.6)", "+nocookie +edns=1 +noednsneg +noad +ednsopt=100", `status: BADVERS[\s\S]*EDNS: version: 0`, `OPT=100`},
		{"cut short, with EDNS (8.2.7)", "+nocookie +edns=0 +noad +bufsize=512 +ignore " + sim.Big, `flags:[^;]* tc[\s\S]*` + edns0, ""},
		{"DO (8.2.8)", "+nocookie +edns=0 +noad +dnssec", `flags: do; udp: 1232`, ""},
		{"EDNS version 1, DO (8.2.9)", "+nocookie +edns=1 +noednsneg +noad +dnssec", `status: BADVERS[\s\S]*EDNS: version: 0`, sim.HubAddr},
		{"several options (8.2.10)", "+edns=0 +noad +cookie +nsid +expire +subnet=0.0.0.0/0", answered, ""},

		{"any type is one record at most (RFC 8482)", "+notcp -t ANY", `status: NOERROR[\s\S]*ANSWER: 1,`, ""},
		{"NOTIFY", "+opcode=notify", `status: NOTIMP`, ""},
		{"STATUS", "+opcode=status", `status: NOTIMP`, ""},
		{"UPDATE", "+opcode=update", `status: NOTIMP`, ""},
		{"another class", "-c CH -t TXT version.bind", `status: REFUSED`, ""},
		{"a whole zone", "-t AXFR", `Transfer failed`, `\sSOA\s`},
		{"no recursion", "+norecurse", answered, `flags:[^;]* rd`},
		{"no question at all", "+header-only +nocookie", `status: FORMERR`, ""},
		{"no question but for a cookie (RFC 7873, 5.4)", "+header-only +cookie", `status: NOERROR[\s\S]*COOKIE: [0-9a-f]{32,80} \(good\)`, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			args := []string{"+tries=1", "+time=3", "@" + gw}
			if !strings.Contains(c.ask, "version.bind") && !strings.Contains(c.ask, sim.Big) {
				args = append(args, sim.Hub)
			}
			out := do(t, h, c.want, "dig", append(args, strings.Fields(c.ask)...)...)
			if c.not != "" && regexp.MustCompile(c.not).MatchString(out) {
				t.Errorf("dig printed\n%s\nwant nothing that matches %s", out, c.not)
			}
		})
	}
}

// cookies shows a server's cookie again (RFC 7873).
func cookies(t *testing.T, h *sim.Host) {
	gw := garage.Gateway.Address("P1").String()
	const own = "0123456789abcdef"
	cookie := regexp.MustCompile(`COOKIE: (` + own + `(?:[0-9a-f]{16,64}))`)
	for _, over := range []string{"+notcp", "+tcp"} {
		first := do(t, h, `COOKIE: `+own+`[0-9a-f]{16,64} \(good\)`, "dig", over, "+cookie="+own, "@"+gw, sim.Hub)
		got := cookie.FindStringSubmatch(first)
		if got == nil {
			t.Fatal("there is no cookie to show again")
		}
		do(t, h, `status: NOERROR[\s\S]*COOKIE: `+own+`[0-9a-f]{16,64} \(good\)[\s\S]*`+sim.HubAddr, "dig", over, "+cookie="+got[1], "@"+gw, sim.Hub)
	}
	do(t, h, `(?i)status: NOERROR[\s\S]*COOKIE: `+own, "kdig", "+cookie="+own, "@"+gw, sim.Hub)
	for _, bad := range []string{"01234567", own + "01", own + strings.Repeat("00", 33)} {
		do(t, h, `status: FORMERR`, "dig", "+nocookie", "+ednsopt=10:"+bad, "@"+gw, sim.Hub)
	}
	t.Run("another device cannot use it", func(t *testing.T) {
		other := connected(t, neighbour)
		got := cookie.FindStringSubmatch(do(t, h, own, "dig", "+cookie="+own, "@"+gw, sim.Hub))
		if got == nil {
			t.Fatal("there is no cookie to carry away")
		}
		out := do(t, other, `COOKIE: `+own, "dig", "+cookie="+got[1], "@"+gw, sim.Hub)
		if strings.Contains(out, "COOKIE: "+got[1]) {
			t.Errorf("the cookie of %s was taken from %s:\n%s", desk, neighbour, out)
		}
	})
}

// sizes sees that no answer over UDP is longer than the client has room for, nor
// longer than 1232 bytes, which no path cuts to pieces, and that over TCP each
// client gets the whole.
func sizes(t *testing.T, h *sim.Host) {
	gw := garage.Gateway.Address("P1").String()
	whole := 0
	for _, c := range []struct {
		ask  []string
		most int // bytes
	}{
		{[]string{"+noedns"}, 512}, {[]string{"+bufsize=512"}, 512}, {[]string{"+bufsize=100"}, 512},
		{[]string{"+bufsize=1232"}, 1232}, {[]string{"+bufsize=4096"}, 1232}, {[]string{"+bufsize=65535"}, 1232},
	} {
		t.Run(strings.Join(c.ask, " "), func(t *testing.T) {
			want := `Received`
			if c.most == 512 { // holds 29 addresses at most
				want = `Flags:[^;]* tc`
			}
			out := do(t, h, want, "kdig", append(c.ask, "+notcp", "+ignore", "@"+gw, sim.Big)...)
			if m := regexp.MustCompile(`Received (\d+) B`).FindStringSubmatch(out); m == nil {
				t.Errorf("kdig does not say how much it received:\n%s", out)
			} else if n, _ := strconv.Atoi(m[1]); n > c.most {
				t.Errorf("%d bytes came, want %d at most", n, c.most)
			}
			out = do(t, h, `198\.51\.100\.1`, "kdig", append(c.ask, "+short", "@"+gw, sim.Big)...)
			n := strings.Count(out, "198.51.100.")
			if whole == 0 {
				whole = n
			}
			if n != whole || n < 30 {
				t.Errorf("%d addresses came in the end, want as many as others get, and more than fit into 512 bytes", n)
			}
		})
	}
}

// A stub is a program made of a library's resolver. It prints one line for each
// name: what it leads to, and in how many milliseconds.
type stub struct {
	name, compiler, source string
	libs                   []string
	options                []string // of resolv.conf, one run each
}

// stubLine is how each source prints.
const stubLine = `printf("%s %s %ld ms\n", name, found, took);`

const getaddrinfoSource = `#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static long now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000 + t.tv_nsec / 1000000; }

int main(int argc, char **argv) {
	for (int i = 1; i < argc; i++) {
		const char *name = argv[i];
		char found[64] = "";
		struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *all = NULL;
		long began = now();
		int failed = getaddrinfo(name, NULL, &hints, &all);
		long took = now() - began;
		if (failed)
			snprintf(found, sizeof found, "%s", failed == EAI_AGAIN ? "again" : failed == EAI_NONAME ? "none" : gai_strerror(failed));
		else if (all->ai_family == AF_INET)
			inet_ntop(AF_INET, &((struct sockaddr_in *)all->ai_addr)->sin_addr, found, sizeof found);
		` + stubLine + `
		if (!failed) freeaddrinfo(all);
	}
	return 0;
}
`

const aresSource = `#include <ares.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
#include <time.h>

static long now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000 + t.tv_nsec / 1000000; }
static char found[64];

static void done(void *arg, int status, int timeouts, struct ares_addrinfo *all) {
	*(int *)arg = 1;
	if (status == ARES_ENOTFOUND || status == ARES_ENODATA) strcpy(found, "none");
	else if (status != ARES_SUCCESS) snprintf(found, sizeof found, "status-%d", status);
	else if (all->nodes->ai_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *)all->nodes->ai_addr)->sin_addr, found, sizeof found);
	if (all) ares_freeaddrinfo(all);
}

int main(int argc, char **argv) {
	ares_channel channel;
	if (ares_library_init(ARES_LIB_INIT_ALL) || ares_init(&channel)) return 1;
	for (int i = 1; i < argc; i++) {
		const char *name = argv[i];
		struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC};
		int ended = 0;
		found[0] = 0;
		long began = now();
		ares_getaddrinfo(channel, name, NULL, &hints, done, &ended);
		while (!ended) {
			fd_set in, out;
			FD_ZERO(&in); FD_ZERO(&out);
			int most = ares_fds(channel, &in, &out);
			struct timeval most_wait = {5, 0}, wait, *until = ares_timeout(channel, &most_wait, &wait);
			select(most, &in, &out, NULL, until);
			ares_process(channel, &in, &out);
		}
		long took = now() - began;
		` + stubLine + `
	}
	return 0;
}
`

// stubs resolves with the resolvers of glibc, musl and c-ares. Each asks for both
// kinds of address at once, and gives up on a name only after seconds when one of
// the two answers is missing or wrong.
func stubs(t *testing.T, h *sim.Host) {
	gw := garage.Gateway.Address("P1").String()
	before := read(h.Resolv)
	t.Cleanup(func() { os.WriteFile(h.Resolv, []byte(before), 0o644) })
	if _, err := os.Stat("/etc/nsswitch.conf"); err == nil {
		if err := h.Hide("/etc/nsswitch.conf", "hosts: files dns\n"); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []stub{
		{"glibc", "gcc", getaddrinfoSource, nil, []string{
			"", "edns0", "use-vc", "trust-ad edns0 single-request", "single-request-reopen", "timeout:1 attempts:1 rotate", "no-aaaa ndots:3"}},
		{"musl", "musl-gcc", getaddrinfoSource, nil, []string{"", "timeout:1 attempts:1", "ndots:3"}},
		{"c-ares", "gcc", aresSource, []string{"-lcares"}, []string{"", "use-vc", "rotate timeout:1"}},
	} {
		t.Run(s.name, func(t *testing.T) {
			program := build(t, s)
			for _, options := range s.options {
				text := "nameserver " + gw + "\n"
				if options != "" {
					text += "options " + options + "\n"
				}
				if err := os.WriteFile(h.Resolv, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				resolves(t, h, program, options, gw)
			}
		})
	}
}

// build compiles a stub.
func build(t *testing.T, s stub) string {
	t.Helper()
	dir := t.TempDir()
	source, program := filepath.Join(dir, "stub.c"), filepath.Join(dir, s.name)
	if err := os.WriteFile(source, []byte(s.source), 0o644); err != nil {
		t.Fatal(err)
	}
	compiler, err := sim.Find(s.compiler)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(within(t, time.Minute), compiler, append([]string{"-O1", "-w", "-o", program, source}, s.libs...)...)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compiling the resolver of %s: %v\n%s", s.name, err, said)
	}
	return program
}

// resolves runs a stub and looks at each line.
func resolves(t *testing.T, h *sim.Host, program, options, gw string) {
	t.Helper()
	want := map[string]string{
		sim.Hub: sim.HubAddr, sim.API: sim.APIAddr, sim.Elsewhere: "none", "pool.ntp.org": gw, "no.pool.ntp.org": gw,
	}
	names := []string{sim.Hub, sim.Elsewhere, sim.API, "pool.ntp.org", "no.pool.ntp.org"}
	out := do(t, h, ``, program, names...)
	for i, line := range strings.Split(strings.TrimSpace(out), "\n") {
		var name, found string
		var took int
		if _, err := fmt.Sscanf(line, "%s %s %d ms", &name, &found, &took); err != nil || i >= len(names) || name != names[i] {
			t.Fatalf("%s with the options %q printed\n%s", filepath.Base(program), options, out)
		}
		if found != want[name] || took >= 1000 {
			t.Errorf("%s with the options %q finds %s for %s after %d ms, want %s at once", filepath.Base(program), options, found, name, took, want[name])
		}
	}
}
