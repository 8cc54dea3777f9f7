package garage

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ntp "github.com/facebook/time/ntp/protocol"

	"chargegate/pkg/sim"
)

// agreement is how near a client of the gateway must be to the gateway's clock.
// Both are the machine's: what lies between them is the way there and back.
const agreement = time.Millisecond

// timeClients lets programs that others have written take the time, and compares
// what they say of it.
func timeClients(t *testing.T) {
	h := connected(t, desk)
	gw := garage.Gateway.Address("P1").String()
	for _, c := range []struct {
		name    string
		program []string
		says    string // the offset in seconds
	}{
		{"chronyd", []string{"chronyd", "-Q", "-u", "root", "-t", "10", "server " + gw + " iburst maxsamples 1"}, `System clock wrong by (-?[\d.]+) seconds`},
		{"ntpdig", []string{"ntpdig", "-t", "5", gw}, `\(\+0000\) ([+-][\d.]+) \+/- `},
		{"busybox", []string{"sh", "-c", "timeout 3 busybox ntpd -d -n -w -p " + gw + "; true"} /* it asks until it is stopped */, `offset:([+-][\d.]+)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "busybox" && !hasApplet("ntpd") {
				t.Skip("this machine's busybox has no ntpd")
			}
			var off time.Duration
			for range 3 { // a busy machine lets one packet wait longer than another
				if off = offset(t, h, c.says, c.program); off.Abs() < agreement {
					t.Logf("off by %s", off)
					return
				}
			}
			t.Errorf("%s says that the gateway's clock is off by %s, want less than %s", c.name, off, agreement)
		})
	}
	t.Run("to the letter", func(t *testing.T) { timeFields(t, h) })
	t.Run("who asks too often is told so", func(t *testing.T) { tooOften(t) })
	unharmed(t)
}

// hasApplet reports whether the machine's busybox can do something.
func hasApplet(name string) bool {
	path, err := sim.Find("busybox")
	if err != nil {
		return false
	}
	list, err := exec.Command(path, "--list").Output()
	return err == nil && regexp.MustCompile(`(?m)^`+name+`$`).Match(list)
}

// offset runs a client and returns how wrong it says that the clock is.
func offset(t *testing.T, h *sim.Host, says string, program []string) time.Duration {
	t.Helper()
	out := do(t, h, says, program[0], program[1:]...)
	m := regexp.MustCompile(says).FindStringSubmatch(out)
	if m == nil {
		t.FailNow()
	}
	seconds, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(seconds * float64(time.Second))
}

// timeFields looks at each field of an answer, in each version, and at what is
// not answered.
func timeFields(t *testing.T, h *sim.Host) {
	c := newAsker(t, h.Space)
	for version := byte(1); version <= 4; version++ {
		request := timeRequest(version)
		sent := time.Now()
		answer := c.ask(request, time.Second)
		got := time.Now()
		if len(answer) != 48 {
			t.Errorf("version %d is answered with %d bytes, want 48", version, len(answer))
			continue
		}
		if answer[0] != version<<3|4 || string(answer[24:32]) != string(request[40:48]) || answer[1] < 2 || answer[1] > 15 {
			t.Errorf("version %d is answered with % x, want its version, mode 4, a stratum of 2 to 15, and the origin % x", version, answer, request[40:48])
		}
		told, err := readTime(answer)
		if err != nil {
			t.Fatal(err)
		}
		if lie := told.lies(sent, got, 0); lie != "" {
			t.Error(lie)
		}
	}
	for _, bad := range []struct {
		what    string
		request []byte
	}{
		{"mode 6", append([]byte{4<<3 | 6, 2}, make([]byte, 46)...)},
		{"mode 7", append([]byte{2<<3 | 7, 0, 3, 42}, make([]byte, 44)...)},
		{"mode 4", append([]byte{4<<3 | 4}, make([]byte, 47)...)},
		{"a byte too few", timeRequest(4)[:47]},
	} {
		if answer := c.ask(bad.request, 100*time.Millisecond); answer != nil {
			t.Errorf("%s is answered with % x, want silence", bad.what, answer)
		}
	}
}

// tooOften lets a chronyd ask sixteen times a second. It is told to ask less
// often (RFC 5905, 7.4), and does.
func tooOften(t *testing.T) {
	h := connected(t, neighbour)
	gw := garage.Gateway.Address("P1").String()
	conf, err := h.File("hasty.conf", "server "+gw+" minpoll -4 maxpoll -4\nport 0\ncmdport 0\nbindcmdaddress /\npidfile /run/hasty.pid\n", 0o644)
	if err != nil {
		t.Fatal(err)
	}
	client, err := h.Launch("chronyd", "-d", "-x", "-u", "root", "-f", conf)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Stop()
	said(t, neighbour, "ntprelay-asked-too-often", neighbour)
	before := kisses(t)
	eventually(t, 10*time.Second, "the kiss is counted", func() (bool, string) { return kisses(t) > 0, "" })
	time.Sleep(2 * time.Second)
	if more := kisses(t) - before; more > 5 {
		t.Errorf("chronyd was told %d times in two seconds and goes on", more)
	}
}

// kisses is how often the daemon has told somebody to ask less often.
func kisses(t *testing.T) int {
	t.Helper()
	return metric(t, `chargegate_[a-z_]*kisses_total`)
}

// metric is the sum of the daemon's figures whose name matches.
func metric(t *testing.T, name string) (sum int) {
	t.Helper()
	out, err := garage.Gateway.Space.Run(within(t, 5*time.Second), "curl", "-sS", "http://127.0.0.1:9180/metrics")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, m := range regexp.MustCompile(`(?m)^`+name+` (\d+)$`).FindAllStringSubmatch(out, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// An asker asks the gateway for the time with packets of its own making.
type asker struct{ conn net.Conn }

func newAsker(t *testing.T, s *sim.Space) *asker {
	t.Helper()
	conn, err := s.Dial("udp4", garage.Gateway.Address("P1").String()+":123")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &asker{conn}
}

var timeAsked atomic.Uint64

// timeRequest is a client's request of a version. Its transmit time is unlike any
// other's.
func timeRequest(version byte) []byte {
	p := make([]byte, 48)
	p[0] = version<<3 | 3
	binary.BigEndian.PutUint64(p[40:], 0xc0ffee0000000000|timeAsked.Add(1))
	return p
}

// ask sends a request and returns what comes back within a time, or nil.
func (a *asker) ask(request []byte, patience time.Duration) []byte {
	a.conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := a.conn.Write(request); err != nil {
		return nil // nobody listened when the last one was sent
	}
	buf := make([]byte, 1024)
	for {
		n, err := a.conn.Read(buf)
		if err != nil {
			return nil
		}
		if n >= 32 && string(buf[24:32]) == string(request[40:48]) {
			return buf[:n]
		}
	}
}

// A given is the time that a client was given.
type given struct {
	leap, stratum uint8
	distance      time.Duration // how wrong it may be (RFC 5905, section 10)
	rx, tx        time.Time
}

// readTime reads an answer (RFC 5905, 7.3).
func readTime(answer []byte) (given, error) {
	var p ntp.Packet
	if len(answer) != ntp.PacketSizeBytes {
		return given{}, fmt.Errorf("an answer of %d bytes", len(answer))
	}
	if err := p.UnmarshalBinary(answer); err != nil {
		return given{}, err
	}
	short := func(v uint32) time.Duration {
		return time.Duration(math.Ceil(float64(v) / (1 << 16) * float64(time.Second)))
	}
	return given{
		leap: answer[0] >> 6, stratum: p.Stratum, distance: short(p.RootDelay)/2 + short(p.RootDispersion),
		rx: ntp.Unix(p.RxTimeSec, p.RxTimeFrac), tx: ntp.Unix(p.TxTimeSec, p.TxTimeFrac),
	}, nil
}

// lies says what is wrong with the time that was given between two moments of the
// machine's clock, from which the truth is off; "" when nothing is. What is told
// may be wrong by the distance that is told with it and not by more, and a clock
// that is not known is not told.
func (g given) lies(sent, got time.Time, off time.Duration) string {
	const rounding = time.Microsecond // of NTP's format, and of what compares
	var all []string
	if g.leap == 3 || g.stratum == 0 || g.stratum > 15 {
		all = append(all, "a clock that is not known was given")
	}
	first, last := sent.Add(off-g.distance-rounding), got.Add(off+g.distance+rounding)
	for what, at := range map[string]time.Time{"receive": g.rx, "transmit": g.tx} {
		if at.Before(first) || at.After(last) {
			all = append(all, what+" time "+at.Sub(sent.Add(off)).String()+" off, within "+g.distance.String()+" as it says")
		}
	}
	if g.tx.Before(g.rx) {
		all = append(all, "the answer left before the request came")
	}
	return strings.Join(all, "; ")
}
