package garage

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"chargegate/pkg/sim"
)

// conversationClients lets programs that others have written talk through the
// gateway, each with the certificate verified and bytes both ways, and looks at what
// each is told when it is refused.
func conversationClients(t *testing.T) {
	h := connected(t, desk)
	finish := keptAlive(t, connected(t, neighbour))
	t.Run("openssl", func(t *testing.T) { opensslClients(t, h) })
	t.Run("openssl with early data", func(t *testing.T) { earlyData(t, h) })
	t.Run("gnutls", func(t *testing.T) { gnutlsClients(t, h) })
	t.Run("curl", func(t *testing.T) { curlClients(t, h) })
	mbed := buildMbed(t)
	t.Run("mbedTLS", func(t *testing.T) { mbedClients(t, h, mbed) })
	t.Run("mosquitto, without a name, on the hub's port", func(t *testing.T) {
		// An address is no name, and this one is nobody's: on 8883 only the hub is meant.
		do(t, h, ``, "mosquitto_pub", "-h", sim.ElsewhereIP, "-p", "8883", "--cafile", garage.Cloud.Authority.File, "--insecure", "-q", "1", "-t", "t", "-m", "m")
	})
	t.Run("Go with ML-KEM", func(t *testing.T) { goClient(t, h) })
	t.Run("refused", func(t *testing.T) { refusedToClients(t, connected(t, wrong), mbed) })
	t.Run("mosquitto, kept alive", finish)
	unharmed(t)
}

// request is what a client says to a server of HTTP, as printf understands it.
func request(name string) string {
	return fmt.Sprintf(`GET / HTTP/1.0\r\nHost: %s\r\n\r\n`, name)
}

// speak gives a program a request on its standard input, and wants it to print a
// text.
func speak(t *testing.T, h *sim.Host, want, name, program string) string {
	t.Helper()
	return do(t, h, want, "sh", "-c", fmt.Sprintf(`{ printf '%s'; sleep 0.4; } | %s`, request(name), program))
}

func opensslClients(t *testing.T, h *sim.Host) {
	base := fmt.Sprintf("openssl s_client -connect %s:443 -CAfile %s -verify_return_error -verify_hostname %s -ign_eof", sim.API, garage.Cloud.Authority.File, sim.API)
	named := base + " -servername " + sim.API
	session := filepath.Join(t.TempDir(), "session")
	for _, c := range []struct{ what, program, want string }{
		{"TLS 1.2", named + " -tls1_2", `TLSv1\.2`},
		{"TLS 1.3", named + " -tls1_3", `TLSv1\.3`},
		{"TLS 1.2, without a name", base + " -noservername -tls1_2", `TLSv1\.2`},
		{"TLS 1.3, without a name", base + " -noservername -tls1_3", `TLSv1\.3`},
		{"in capitals", base + " -servername API.Zaptec.COM", ``},
		{"a hello of three records", named + " -tls1_3 -max_send_frag 512 -split_send_frag 512 -groups ffdhe8192:X25519:P-521:P-384:P-256", `TLSv1\.3`},
		{"a session begun", named + " -sess_out " + session, `New, TLSv1\.3`},
		{"a session resumed", named + " -sess_in " + session, `Reused, TLSv1\.3`},
	} {
		t.Run(c.what, func(t *testing.T) {
			out := speak(t, h, c.want, sim.API, c.program)
			if !strings.Contains(out, "this is "+sim.API) || !strings.Contains(out, "Verify return code: 0 (ok)") && !strings.Contains(out, "Reused") {
				t.Errorf("openssl printed\n%s\nwant the server's answer, and its certificate verified", out)
			}
		})
	}
}

// earlyData resumes a session with a server that takes data behind the hello, which
// is not read with it. The name's rule says plain: TLS is let out as well.
func earlyData(t *testing.T, h *sim.Host) {
	chain, key, err := garage.Cloud.Authority.Pair(sim.OCPP)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	stdin := filepath.Join(dir, "never-ends")
	if err := syscall.Mkfifo(stdin, 0o600); err != nil {
		t.Fatal(err)
	}
	server, err := garage.Cloud.Space.Launch("sh", "-c", `exec openssl s_server -quiet -early_data -accept "$1" -cert_chain "$2" -cert "$2" -key "$3" <>"$4"`, "sh",
		fmt.Sprintf("%s:%d", sim.OCPPAddr, sim.OCPPTLSPort), chain, key, stdin)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	data := filepath.Join(dir, "data")
	if err := os.WriteFile(data, []byte("too early for an answer\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	session := filepath.Join(dir, "session")
	program := fmt.Sprintf("openssl s_client -connect %s:%d -servername %s -CAfile %s -verify_return_error -tls1_3", sim.OCPP, sim.OCPPTLSPort, sim.OCPP, garage.Cloud.Authority.File)
	eventually(t, 5*time.Second, "openssl's server takes a session", func() (bool, string) {
		out, err := h.Run(within(t, 5*time.Second), "sh", "-c", "{ echo good morning; sleep 0.4; } | "+program+" -sess_out "+session)
		_, there := os.Stat(session)
		return err == nil && there == nil && strings.Contains(out, "Verify return code: 0 (ok)"), out
	})
	do(t, h, `Early data was accepted`, "sh", "-c", "{ echo good night; sleep 0.4; } | "+program+" -sess_in "+session+" -early_data "+data)
	eventually(t, 2*time.Second, "the server hears all of it", func() (bool, string) {
		said := server.Said()
		return strings.Contains(said, "too early for an answer") && strings.Contains(said, "good night"), said
	})
}

func gnutlsClients(t *testing.T, h *sim.Host) {
	for _, c := range []struct{ what, more, want string }{
		{"as it comes", "", `TLS1\.3`},
		{"TLS 1.2", "--priority NORMAL:-VERS-ALL:+VERS-TLS1.2", `TLS1\.2`},
		{"without a name", "--disable-sni", `TLS1\.3`},
	} {
		t.Run(c.what, func(t *testing.T) {
			out := speak(t, h, c.want, sim.API, fmt.Sprintf("gnutls-cli --x509cafile %s %s --port 443 %s", garage.Cloud.Authority.File, c.more, sim.API))
			if !strings.Contains(out, "The certificate is trusted") || !strings.Contains(out, "this is "+sim.API) {
				t.Errorf("gnutls-cli printed\n%s\nwant the server's answer, and its certificate trusted", out)
			}
		})
	}
}

func curlClients(t *testing.T, h *sim.Host) {
	plain := fmt.Sprintf("http://%s:%d/ocpp/ZAP000001", sim.OCPP, sim.OCPPPort)
	for _, c := range []struct {
		what string
		args []string
		want string
	}{
		{"HTTP/1.1 over TLS", []string{"--http1.1", "--cacert", garage.Cloud.Authority.File, "https://" + sim.API + "/"}, "this is " + sim.API},
		{"as it comes", []string{"--cacert", garage.Cloud.Authority.File, "https://" + sim.Devices + "/"}, "this is " + sim.Devices},
		{"plain, by the Host", []string{plain}, "this is " + sim.OCPP},
		{"plain, without a Host, by the address", []string{"-0", "-H", "Host:", plain}, "this is " + sim.OCPP},
	} {
		t.Run(c.what, func(t *testing.T) {
			do(t, h, c.want, "curl", append([]string{"-sS", "-m", "10"}, c.args...)...)
		})
	}
}

// mbedSource is a client of mbedTLS as a charger's firmware uses it: TLS 1.2 only,
// no session tickets, the certificate verified. Its arguments are the address, the
// port, the name (or -), the file of the authority, the fragment length (or 0), how
// many bytes it sends at once, and what it says, where ^ ends a line.
const mbedSource = `#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/entropy.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/error.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static size_t piece;

static int fail(const char *what, int code) {
	char words[200];
	mbedtls_strerror(code, words, sizeof words);
	printf("%s: -0x%04x %s\n", what, -code, words);
	return 1;
}

static int send_piece(void *net, const unsigned char *b, size_t n) {
	return mbedtls_net_send(net, b, n < piece ? n : piece);
}

int main(int argc, char **argv) {
	if (argc != 8) return 2;
	mbedtls_net_context net;
	mbedtls_entropy_context entropy;
	mbedtls_ctr_drbg_context random;
	mbedtls_ssl_context ssl;
	mbedtls_ssl_config conf;
	mbedtls_x509_crt ca;
	int e, on = 1, fragment = atoi(argv[5]);
	piece = atoi(argv[6]);
	mbedtls_net_init(&net);
	mbedtls_entropy_init(&entropy);
	mbedtls_ctr_drbg_init(&random);
	mbedtls_ssl_init(&ssl);
	mbedtls_ssl_config_init(&conf);
	mbedtls_x509_crt_init(&ca);
	if ((e = mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0))) return fail("random", e);
	if ((e = mbedtls_ssl_config_defaults(&conf, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT))) return fail("configuration", e);
	mbedtls_ssl_conf_rng(&conf, mbedtls_ctr_drbg_random, &random);
	mbedtls_ssl_conf_min_version(&conf, 3, 3);
	mbedtls_ssl_conf_max_version(&conf, 3, 3);
	mbedtls_ssl_conf_session_tickets(&conf, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
	if ((e = mbedtls_x509_crt_parse_file(&ca, argv[4]))) return fail("authority", e);
	mbedtls_ssl_conf_ca_chain(&conf, &ca, NULL);
	mbedtls_ssl_conf_authmode(&conf, MBEDTLS_SSL_VERIFY_REQUIRED);
	if (fragment && (e = mbedtls_ssl_conf_max_frag_len(&conf, MBEDTLS_SSL_MAX_FRAG_LEN_512))) return fail("fragments", e);
	if ((e = mbedtls_ssl_setup(&ssl, &conf))) return fail("setup", e);
	if ((e = mbedtls_ssl_set_hostname(&ssl, strcmp(argv[3], "-") ? argv[3] : NULL))) return fail("name", e);
	if ((e = mbedtls_net_connect(&net, argv[1], argv[2], MBEDTLS_NET_PROTO_TCP))) return fail("connect", e);
	setsockopt(net.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	mbedtls_ssl_set_bio(&ssl, &net, send_piece, mbedtls_net_recv, NULL);
	while ((e = mbedtls_ssl_handshake(&ssl)))
		if (e != MBEDTLS_ERR_SSL_WANT_READ && e != MBEDTLS_ERR_SSL_WANT_WRITE) return fail("handshake", e);
	printf("%s, verified: %s\n", mbedtls_ssl_get_version(&ssl), mbedtls_ssl_get_verify_result(&ssl) ? "no" : "yes");
	unsigned char b[4096];
	size_t n = 0;
	for (const char *s = argv[7]; *s && n + 2 < sizeof b; s++)
		if (*s == '^') { b[n++] = '\r'; b[n++] = '\n'; } else b[n++] = *s;
	for (size_t sent = 0; sent < n; sent += e)
		if ((e = mbedtls_ssl_write(&ssl, b + sent, n - sent)) <= 0) return fail("write", e);
	while ((e = mbedtls_ssl_read(&ssl, b, sizeof b)) > 0) fwrite(b, 1, e, stdout);
	return e && e != MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY ? fail("read", e) : 0;
}
`

func buildMbed(t *testing.T) string {
	return build(t, stub{name: "mbedTLS", compiler: "gcc", source: mbedSource, libs: []string{"-lmbedtls", "-lmbedx509", "-lmbedcrypto"}})
}

// mbedArgs are the arguments of the mbedTLS client.
func mbedArgs(addr, port, name string, fragment, piece int) []string {
	return []string{addr, port, name, garage.Cloud.Authority.File, fmt.Sprint(fragment), fmt.Sprint(piece), "GET / HTTP/1.0^Host: " + sim.API + "^^"}
}

func mbedClients(t *testing.T, h *sim.Host, program string) {
	for _, c := range []struct {
		what            string
		name            string
		fragment, piece int
	}{
		{"with a name", sim.API, 0, 1 << 14},
		{"without a name", "-", 0, 1 << 14},
		{"in fragments of 512 bytes", sim.API, 512, 1 << 14},
		{"in segments of a few bytes", sim.API, 0, 7},
		{"byte by byte", sim.API, 512, 1},
	} {
		t.Run(c.what, func(t *testing.T) {
			out := do(t, h, `TLSv1\.2, verified: yes`, program, mbedArgs(sim.API, "443", c.name, c.fragment, c.piece)...)
			if !strings.Contains(out, "this is "+sim.API) {
				t.Errorf("the client printed\n%s\nwant the server's answer", out)
			}
		})
	}
}

// goClient sends a post-quantum hello, which is longer than one segment.
func goClient(t *testing.T, h *sim.Host) {
	conn, err := h.Space.Dial("tcp4", sim.APIAddr+":443")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	c := tls.Client(conn, &tls.Config{ServerName: sim.API, RootCAs: garage.Cloud.Authority.Pool()})
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+sim.API+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if by := answer.Header.Get(sim.ServedBy); by != sim.API || c.ConnectionState().CurveID != tls.X25519MLKEM768 {
		t.Errorf("served by %q with %s, want %s and ML-KEM", by, c.ConnectionState().CurveID, sim.API)
	}
}

// keptAlive begins to listen at the hub with a keep-alive that is shorter than the
// test. What it returns sends the message that is waited for.
func keptAlive(t *testing.T, h *sim.Host) (finish func(*testing.T)) {
	hub := []string{"-h", sim.Hub, "-p", "8883", "--cafile", garage.Cloud.Authority.File, "-t", "garage/kept", "-k", "5"}
	began := time.Now()
	sub, err := h.Launch("mosquitto_sub", append(hub, "-C", "1")...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sub.Stop)
	return func(t *testing.T) {
		const pinged = 8 * time.Second // the broker gives up after one and a half keep-alives
		if rest := pinged - time.Since(began); rest > 0 {
			time.Sleep(rest)
		}
		select {
		case <-sub.Ended():
			t.Fatalf("it ended before the message came:\n%s", sub.Last(5))
		default:
		}
		do(t, h, ``, "mosquitto_pub", append(hub, "-q", "1", "-m", "still here")...)
		select {
		case <-sub.Ended():
		case <-time.After(5 * time.Second):
		}
		if got := sub.Said(); got != "still here\n" {
			t.Errorf("it heard %q", got)
		}
	}
}

// refusedToClients sees that each stack is told at once that it is refused, by an
// alert where it speaks TLS, and understands it.
func refusedToClients(t *testing.T, h *sim.Host, mbed string) {
	at, ca := sim.ElsewhereIP+":443", garage.Cloud.Authority.File
	openssl := []string{"openssl", "s_client", "-connect", at, "-servername", sim.Elsewhere}
	gnutls := []string{"gnutls-cli", "--insecure", "--sni-hostname", sim.Elsewhere, "--port", "443", sim.ElsewhereIP}
	for _, c := range []struct {
		what    string
		program []string
		want    string // what it prints
	}{
		{"openssl, TLS 1.2", append(openssl, "-tls1_2"), `unrecognized name.*alert number 112`},
		{"openssl, TLS 1.3", append(openssl, "-tls1_3"), `unrecognized name.*alert number 112`},
		{"gnutls-cli, TLS 1.3", gnutls, `\(112\)|server name sent was not recognized`},
		{"gnutls-cli, TLS 1.2", append(gnutls[:1:1], append([]string{"--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2"}, gnutls[1:]...)...), `\(112\)|server name sent was not recognized`},
		{"curl", []string{"curl", "-sS", "-m", "5", "--resolve", sim.Elsewhere + ":443:" + sim.ElsewhereIP, "https://" + sim.Elsewhere + "/"}, `unrecognized name`},
		{"mbedTLS", append([]string{mbed}, mbedArgs(sim.ElsewhereIP, "443", sim.Elsewhere, 0, 1<<14)...), `handshake: -0x7780 .*fatal alert message was received`},
		{"mosquitto_pub, of a name on the wrong port", []string{"mosquitto_pub", "-h", sim.API, "-p", "8883", "--cafile", ca, "-t", "t", "-m", "m"}, `(?i)TLS error|unable to connect`},
		{"mosquitto_pub without TLS", []string{"mosquitto_pub", "-h", sim.API, "-p", "443", "-t", "t", "-m", "m"}, `(?i)connection (was lost|refused|reset)|unable to connect|error`},
		{"curl, of HTTP on the port of TLS", []string{"curl", "-sS", "-m", "5", "http://" + sim.API + ":443/"}, `(?i)reset|empty reply`},
		{"curl, with a proxy", []string{"curl", "-sS", "-m", "5", "-x", fmt.Sprintf("http://%s:%d", sim.OCPP, sim.OCPPPort), "https://" + sim.API + "/"}, `(?i)reset|proxy|empty reply`},
	} {
		t.Run(c.what, func(t *testing.T) {
			began := time.Now()
			out, err := h.Run(within(t, 10*time.Second), c.program[0], c.program[1:]...)
			took := time.Since(began)
			if err == nil || !regexp.MustCompile(c.want).MatchString(out) || took > atOnce+time.Second { // starting the program counts too
				t.Errorf("%q: %v after %s; it printed\n%s\nwant a refusal at once, in words that match %s", c.program, err, took, out, c.want)
			}
			t.Logf("%s after %s: %s", c.what, took.Round(10*time.Millisecond), lastWords(out))
		})
	}
	t.Run("Go", func(t *testing.T) {
		began := time.Now()
		conn, err := h.Space.Dial("tcp4", at)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		err = tls.Client(conn, &tls.Config{ServerName: sim.Elsewhere}).Handshake()
		var op *net.OpError
		if !errors.As(err, &op) || op.Err.Error() != "tls: unrecognized name" || time.Since(began) > atOnce {
			t.Errorf("%v after %s, want unrecognized name at once", err, time.Since(began))
		}
	})
	said(t, wrong, "egress-name-refused", sim.Elsewhere)
	said(t, wrong, "egress-port-refused", sim.API+" on port 8883")
	said(t, wrong, "egress-plain-refused", "MQTT without TLS")
	said(t, wrong, "egress-plain-refused", "plain HTTP")
	said(t, wrong, "egress-hello-failed", "web proxy")
}

// lastWords is the last line that a program printed.
func lastWords(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return lines[len(lines)-1]
}
