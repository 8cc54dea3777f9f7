package event_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/event"
)

var mac = [6]byte{0x60, 0x15, 0x92, 0x41, 0x00, 0x07}

// clock is a time that stands still until it is moved.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func newLog(c *clock, out *bytes.Buffer) *event.Log {
	return event.New(event.Options{Keep: 4, Now: c.Now, Who: func(m [6]byte, ip netip.Addr) event.Subject {
		if m == mac || ip == netip.MustParseAddr("10.83.0.17") {
			return event.Subject{Charger: "P1-07", MAC: "60:15:92:41:00:07", IP: "10.83.0.17", Network: "P1"}
		}
		return event.Subject{}
	}}, event.Text(out))
}

func TestLineNamesTheChargerHoweverItIsKnown(t *testing.T) {
	c := &clock{time.Date(2026, 11, 20, 8, 30, 0, 0, time.UTC)}
	for _, tt := range []struct {
		name  string
		field event.Field
		want  string
	}{
		{"by its MAC", event.MAC(mac), "P1-07"},
		{"by its address", event.IP(netip.MustParseAddr("10.83.0.17")), "P1-07"},
		{"by its address as an IPv6 socket writes it", event.IP(netip.MustParseAddr("::ffff:10.83.0.17")), "P1-07"},
		{"somebody unknown by the MAC", event.MAC([6]byte{2, 0, 0, 0, 0, 9}), "02:00:00:00:00:09"},
		{"somebody unknown by the address", event.IP(netip.MustParseAddr("10.83.0.99")), "10.83.0.99"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			newLog(c, &out).Say(event.ChargerOnline, tt.field)
			want := "08:30:00.000 info    " + tt.want + " is online: it talks with the cloud [charger-online]\n"
			if diff := cmp.Diff(want, out.String()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestSubjectComesFirstAndIsComplete(t *testing.T) {
	log := newLog(&clock{}, &bytes.Buffer{})
	log.Say(event.ChargerOffline, event.F("STAGE", "cloud"), event.IP(netip.MustParseAddr("10.83.0.17")))
	want := []event.Field{{Key: "CHARGER", Value: "P1-07"}, {Key: "MAC", Value: "60:15:92:41:00:07"},
		{Key: "IP", Value: "10.83.0.17"}, {Key: "NETWORK", Value: "P1"}, {Key: "STAGE", Value: "cloud"}}
	if diff := cmp.Diff(want, log.Recent(0, "")[0].Fields); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestRepetitionIsHeldBackAndCounted(t *testing.T) {
	c := &clock{time.Unix(1000, 0)}
	var out bytes.Buffer
	log := newLog(c, &out)
	for range 5 {
		log.Say(event.PanicRecovered, event.MAC(mac), event.F("SERVICE", "dhcp"))
		c.now = c.now.Add(10 * time.Second)
	}
	log.Say(event.PanicRecovered, event.MAC([6]byte{2, 0, 0, 0, 0, 9}), event.F("SERVICE", "dhcp")) // somebody else's story
	c.now = c.now.Add(10 * time.Minute)
	log.Say(event.PanicRecovered, event.MAC(mac), event.F("SERVICE", "dhcp"))
	if n := strings.Count(out.String(), "\n"); n != 3 {
		t.Errorf("%d lines, want 3:\n%s", n, out.String())
	}
	if !strings.Contains(out.String(), "(4 more like this since the last one)") {
		t.Errorf("the four held back are not told:\n%s", out.String())
	}
	if n := log.Counts()[event.PanicRecovered]; n != 7 {
		t.Errorf("counted %d, want 7", n)
	}
}

func TestOneStrangerCannotFillTheLog(t *testing.T) {
	c := &clock{time.Unix(1000, 0)}
	var out bytes.Buffer
	log := newLog(c, &out)
	for i := range 10_000 {
		log.Say(event.ResolverNameRefused, event.MAC(mac), event.F("NAME", fmt.Sprintf("x%d.example.com", i)))
	}
	log.Say(event.ResolverNameRefused, event.MAC([6]byte{2, 0, 0, 0, 0, 9}), event.F("NAME", "x1.example.com")) // somebody else's is still said
	if n := strings.Count(out.String(), "\n"); n != 31 {
		t.Errorf("%d lines, want 30 of the one and 1 of the other", n)
	}
	if n := event.Limits(log); n > 40 {
		t.Errorf("%d things are remembered", n)
	}
	c.now = c.now.Add(time.Hour)
	log.Say(event.ResolverNameRefused, event.MAC(mac), event.F("NAME", "y.example.com"))
	if !strings.Contains(out.String(), "(9970 more like this since the last one)") {
		t.Error("how many were held back is not told")
	}
}

// Whoever can send from addresses that nobody was given, or has many devices,
// must neither fill the log nor hide what a charger was refused.
func TestAFloodOfManyHidesNobody(t *testing.T) {
	c := &clock{time.Unix(1000, 0)}
	var out bytes.Buffer
	log := newLog(c, &out)
	flood := func(round int) {
		for i := range 400 {
			who := event.IP(netip.AddrFrom4([4]byte{10, 99, byte(i >> 8), byte(i)}))
			if i >= 200 {
				who = event.MAC([6]byte{2, 0, 0, 0, 1, byte(i)})
			}
			for n := range 50 {
				log.Say(event.ResolverNameRefused, who, event.F("NAME", fmt.Sprintf("x%d.%d.example.com", n, round)))
			}
		}
	}
	flood(0)
	said := strings.Count(out.String(), "\n")
	if most := 30 * (200 + 1); said > most {
		t.Errorf("%d lines of the flood, want at most %d", said, most)
	}
	for round := range 10 { // in the same hour
		flood(round + 1)
	}
	if more := strings.Count(out.String(), "\n") - said; more > 0 {
		t.Errorf("%d lines more by going on", more)
	}
	log.Say(event.ResolverNameRefused, event.MAC(mac), event.F("NAME", "firmware.example.com"))
	if !strings.Contains(out.String(), "firmware.example.com") {
		t.Error("what a charger was refused is hidden")
	}
	if n := event.Limits(log); n > 2*4096 {
		t.Errorf("%d things are remembered", n)
	}
}

func TestMemoryOfRepetitionIsBounded(t *testing.T) {
	c := &clock{time.Unix(1000, 0)}
	log := event.New(event.Options{Now: c.Now})
	for i := range 100_000 {
		log.Say(event.PanicRecovered, event.MAC([6]byte{2, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if n := event.Limits(log); n > 4096 {
		t.Errorf("%d strangers are remembered, want at most 4096", n)
	}
}

func TestStrangersTextStaysOnItsLine(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"what every Go says", "Zaptec Go", "Zaptec Go"},
		{"a new line", "a\nb", `a\nb`},
		{"a terminal escape", "\x1b[31mred", `\x1b[31mred`},
		{"bytes that are not text", "\xff\xfe", `\xff\xfe`},
		{"text from right to left marks", "a\u202eb", `a\u202eb`},
		{"letters of all the world", "laddare-åäö", "laddare-åäö"},
		{"very long", strings.Repeat("x", 1000), strings.Repeat("x", 252) + "…"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := event.F("HOST", tt.in).Value; got != tt.want {
				t.Errorf("%q became %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func FuzzFieldIsAlwaysOneShortPrintableLine(f *testing.F) {
	f.Add("Zaptec Go")
	f.Add("\x00\xff\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		v := event.F("HOST", s).Value
		if len(v) > 255 || strings.ContainsAny(v, "\n\r\x1b\x00") || strings.ToValidUTF8(v, "") != v {
			t.Errorf("%q became %q", s, v)
		}
	})
}

func TestRecentKeepsTheLast(t *testing.T) {
	log := newLog(&clock{}, &bytes.Buffer{})
	for range 6 {
		log.Say(event.ChargerOnline, event.MAC(mac))
	}
	log.Say(event.DaemonReady, event.F("TOOK", time.Second))
	var seqs []uint64
	for _, r := range log.Recent(0, "") {
		seqs = append(seqs, r.Seq)
	}
	if diff := cmp.Diff([]uint64{4, 5, 6, 7}, seqs); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if n := len(log.Recent(5, "P1-07")); n != 1 {
		t.Errorf("%d of P1-07 after 5, want 1", n)
	}
}

func TestLevelHoldsBackFromSinksOnly(t *testing.T) {
	var out bytes.Buffer
	log := event.New(event.Options{Level: event.Warning, Keep: 10}, event.Text(&out))
	log.Say(event.DaemonReady)
	if out.Len() > 0 || len(log.Recent(0, "")) != 1 {
		t.Errorf("wrote %q, kept %d", out.String(), len(log.Recent(0, "")))
	}
	log.SetLevel(event.Info)
	log.Say(event.DaemonReady)
	if out.Len() == 0 {
		t.Error("info is still held back")
	}
}

func TestAdviceNamesTheCharger(t *testing.T) {
	var out bytes.Buffer
	newLog(&clock{}, &out).Say(event.ChargerOffline, event.MAC(mac), event.F("SINCE", 5*time.Minute), event.F("STAGE", "cloud"))
	if want := "Run: sudo chargegate charger P1-07."; !strings.Contains(out.String(), want) {
		t.Errorf("%q does not say %q", out.String(), want)
	}
}

func TestNilLogIsSilent(t *testing.T) {
	var log *event.Log
	log.Say(event.DaemonReady)
}

func TestJSONCarriesTheJournalsFields(t *testing.T) {
	var out bytes.Buffer
	c := &clock{time.Date(2026, 11, 20, 8, 30, 0, 0, time.UTC)}
	log := event.New(event.Options{Now: c.Now}, event.JSON(&out))
	log.Say(event.ServiceFailed, event.F("SERVICE", "dhcp"), event.Err(errors.New("socket\nbroke")))
	var got map[string]string
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"EVENT": "service-failed", "PRIORITY": "3", "SERVICE": "dhcp", "ERROR": `socket\nbroke`,
		"MESSAGE_ID": event.ServiceFailed.MessageID(), "ADVICE": event.ServiceFailed.Advice, "SYSLOG_IDENTIFIER": "chargegated",
		"MESSAGE": `dhcp failed and is started again: socket\nbroke`, "TIME": "2026-11-20T08:30:00Z"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestVocabularyIsWholeAndSpeaks(t *testing.T) {
	id, key := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`), regexp.MustCompile(`\{([^}]*)\}`)
	ids := map[string]bool{}
	for _, k := range event.All() {
		switch {
		case !id.MatchString(k.ID):
			t.Errorf("%q is not an id: lower-case words joined by hyphens", k.ID)
		case ids[k.ID]:
			t.Errorf("%s stands twice", k.ID)
		case k.Text == "" || k.Explain == "":
			t.Errorf("%s has no text or no explanation", k.ID)
		case k.Level >= event.Warning && k.Advice == "":
			t.Errorf("%s asks somebody to act and does not say how", k.ID)
		}
		ids[k.ID] = true
		for _, m := range key.FindAllStringSubmatch(k.Text, -1) {
			if !regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`).MatchString(m[1]) {
				t.Errorf("%s: {%s} is not a field name", k.ID, m[1])
			}
		}
	}
}

// Every Kind that is declared must be in All: the catalogue is made from it.
func TestNoKindIsForgotten(t *testing.T) {
	fset := token.NewFileSet()
	declared := 0
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !strings.HasPrefix(file.Name(), "kinds_") {
			continue
		}
		f, err := parser.ParseFile(fset, file.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if u, ok := n.(*ast.UnaryExpr); ok && u.Op == token.AND {
				if lit, ok := u.X.(*ast.CompositeLit); ok && fmt.Sprint(lit.Type) == "Kind" {
					declared++
				}
			}
			return true
		})
	}
	if listed := len(event.All()); listed != declared {
		t.Errorf("%d kinds are declared, %d are listed", declared, listed)
	}
}

func TestDurationsAreSpokenShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		12 * time.Hour: "12h", 90 * time.Second: "1m30s", 45 * time.Minute: "45m", 1234567 * time.Microsecond: "1.23s",
		12345 * time.Microsecond: "12.35ms", 0: "0s",
	} {
		if got := event.Duration(d); got != want {
			t.Errorf("%d is spoken %q, want %q", d, got, want)
		}
	}
}
