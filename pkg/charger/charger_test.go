package charger_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/charger"
)

// garage has two networks. P2's gateway stands at the end of its subnet.
var garage = []charger.Network{{"P1", netip.MustParsePrefix("10.83.0.1/26")}, {"P2", netip.MustParsePrefix("10.83.16.254/24")}}

func TestInventory(t *testing.T) {
	for _, tt := range []struct {
		name, csv string
		names     []string
		fault     string
	}{
		{"as it should be", "mac,name,serial,model,network\n60:15:92:41:00:07,P1-07,ZAP000007,Go,P1\n60-15-92-41-00-08,P1-08,,,\n", []string{"P1-07", "P1-08"}, ""},
		{"only what must be there, in another order, from a spreadsheet", "\ufeffName,MAC\r\nP1-07,6015.9241.0007\r\n", []string{"P1-07"}, ""},
		{"comments and empty lines", "mac,name\n\n# level 1\n60:15:92:41:00:07, P1-07\n", []string{"P1-07"}, ""},
		{"an empty file", "", nil, ""},
		{"short rows", "mac,name,serial\n60:15:92:41:00:07,P1-07\n", []string{"P1-07"}, ""},
		{"a column that is not known", "mac,name,colour\n", nil, `line 1: "colour" is not a column; allowed are mac, name, serial, model, network, address`},
		{"no names", "mac\n", nil, `line 1: no column "name"; the first line names the columns, like: mac,name,serial,model,network`},
		{"a column twice", "mac,name,mac\n", nil, `line 1: column "mac" stands twice`},
		{"faults leave the good rows in force", "mac,name\nnonsense,P1-01\n60:15:92:41:00:07,P1-07\n60:15:92:41:00:07,P1-08\n60:15:92:41:00:09,P1-07\n01:00:5e:00:00:01,P1-10\n60:15:92:41:00:11,\n60:15:92:41:00:12,P1-12,more\n60:15:92:41:00:13,P1\x1b13\n",
			[]string{"P1-07"}, `line 2: "nonsense" is not a MAC address; write six pairs of hexadecimal digits, like 60:15:92:41:00:07
line 4: 60:15:92:41:00:07 stands twice: as P1-07 and as P1-08
line 5: the name P1-07 is taken by line 3; each charger has its own
line 6: "01:00:5e:00:00:01" is not the address of a single device
line 7: 60:15:92:41:00:11 has no name; write the parking space, like P1-07
line 8: 3 values, but the header names 2 columns
line 9: "P1\x1b13": a value has at most 40 bytes, all printable`},
		{"a spreadsheet's semicolons", "sep=;\r\nmac;name;serial;model;\r\n60:15:92:41:00:07;P1-07, upper deck;ZAP000007;;\r\n;;;;\r\n60:15:92:41:00:08;P1-08;;;\r\n", []string{"P1-07, upper deck", "P1-08"}, ""},
		{"a quoted sep line and a byte order mark", "\ufeff\"sep=;\"\nmac;name\nnonsense;P1-07\n", nil, `line 3: "nonsense" is not a MAC address; write six pairs of hexadecimal digits, like 60:15:92:41:00:07`},
		{"tabs", "mac\tname\tserial\n60:15:92:41:00:07\tP1-07\tZAP000007\n\t\t\n", []string{"P1-07"}, ""},
		{"tabs around an empty value", "mac\tserial\tname\n60:15:92:41:00:07\t\tP1-07\n", []string{"P1-07"}, ""},
		{"a quotation mark in a comment", "mac,name\n# 5\" from the wall\n60:15:92:41:00:07,P1-07\n", []string{"P1-07"}, ""},
		{"a comment in a spreadsheet's quotation marks", "\"# the MAC address; the parking space\"\n# mac;name;x;y;z\nmac,name\n60:15:92:41:00:07,P1-07\n\"# level 2, left\"\n", []string{"P1-07"}, ""},
		{"rows of separators", "mac,name,serial\n,,\n , ,\n60:15:92:41:00:07,P1-07,\n,,,,,,\n", []string{"P1-07"}, ""},
		{"Windows-1252", "mac,name,model\n60:15:92:41:00:07,P1-07,Go\n60:15:92:41:00:08,G\xe5rd 8,Go\n", []string{"P1-07"}, "line 3: this is not UTF-8; save as UTF-8 (CSV UTF-8 in Excel)"},
		{"Windows-1252 in many lines", "mac,name\n60:15:92:41:00:07,G\xe5rd 7\n60:15:92:41:00:08,G\xe5rd 8\n60:15:92:41:00:09,G\xe5rd 9\n", nil, "line 2: this is not UTF-8, and neither are 2 lines more; save as UTF-8 (CSV UTF-8 in Excel)"},
		{"Windows-1252 in a comment", "# G\xf6teborg\nmac,name\n60:15:92:41:00:07,P1-07\n", []string{"P1-07"}, ""},
		{"UTF-16", "\xff\xfem\x00a\x00c\x00", nil, "line 1: the file is UTF-16; save as UTF-8 (CSV UTF-8 in Excel)"},
		{"UTF-16 without its mark", "\x00m\x00a\x00c\x00,", nil, "line 1: the file is UTF-16; save as UTF-8 (CSV UTF-8 in Excel)"},
		{"no header", "# level 1\n60:15:92:41:00:07,P1-07,ZAP000007,Go\n60:15:92:41:00:08,P1-08,ZAP000008,Go\n", nil, "line 2: the first line must name the columns, like: mac,name,serial,model"},
		{"no header, names first", "P1-07;60:15:92:41:00:07\nP1-08;60:15:92:41:00:08\n", nil, "line 1: the first line must name the columns, like: mac,name,serial,model"},
		{"a header below a comment", "# level 1\nmac,colour\n", nil, `line 2: "colour" is not a column; allowed are mac, name, serial, model, network, address`},
		{"serial and name swapped", "mac,name,serial\n60:15:92:41:00:07,ZAP000007,P1-07\n60:15:92:41:00:08,zpr000008,\n60:15:92:41:00:09,ZAPPA,\n60:15:92:41:00:10,ZCH,\n", []string{"ZAPPA", "ZCH"},
			"line 2: serial and name seem swapped: ZAP000007 is a serial number; the name is the parking space, like P1-07\nline 3: serial and name seem swapped: zpr000008 is a serial number; the name is the parking space, like P1-07"},
		{"a network that is not there", "mac,name,network\n60:15:92:41:00:07,P1-07,P1\n\n60:15:92:41:00:08,P9-08,P9\n", []string{"P1-07", "P9-08"}, `line 4: P9-08 belongs to network "P9", which the configuration does not have`},
		{"far too much", strings.Repeat("#\n", 1<<20), nil, "line 1: the file has more than 1048576 bytes; that cannot be a list of chargers"},
		{"a quote that does not end", "mac,name\n60:15:92:41:00:07,P1-07\n\"60:15\n", []string{"P1-07"}, quotes(3)},
		{"a quote that does not end, in the first row of all", "mac,name\n\"60:15:92:41:00:06,P1-06\n60:15:92:41:00:07,P1-07\n60:15:92:41:00:08,P1-08\n", []string{"P1-07", "P1-08"}, quotes(2)},
		{"a quote too many in two rows", "mac,name\r\n60:15:92:41:00:06,\"P1-06\r\n60:15:92:41:00:07,P1-07\r\n60:15:92:41:00:08,P1-08\"\r\n60:15:92:41:00:09,\"P1-09\"\r\n", []string{"P1-07", "P1-09"}, quotes(2) + "\n" + quotes(4)},
		{"a value over two lines", "mac,name\n60:15:92:41:00:06,\"P1\n06\"\n60:15:92:41:00:07,P1-07\n", []string{"P1-07"}, quotes(2) + "\n" + quotes(3)},
		{"quoted separators and quotes", "mac,name\n60:15:92:41:00:07,\"P1, \"\"07\"\"\"", []string{"P1, \"07\""}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv, err := charger.ReadInventory(strings.NewReader(tt.csv), garage)
			var names []string
			for _, c := range inv {
				names = append(names, c.Name)
			}
			slices.Sort(names)
			fault := ""
			if err != nil {
				fault = err.Error()
			}
			if diff := cmp.Diff(tt.fault, fault); diff != "" {
				t.Errorf("fault (-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(tt.names, names); diff != "" {
				t.Errorf("names (-want +got)\n%s", diff)
			}
		})
	}
}

// quotes is the fault of a line with a quotation mark too many.
func quotes(line int) string {
	return fmt.Sprintf(`line %d: a quotation mark " too many, or one is missing; values need none, and stand on one line`, line)
}

func TestReservations(t *testing.T) {
	for _, tt := range []struct {
		name, header, row string
		network, reserved string
		fault             string
	}{
		{"none", "mac,name,network,address", "P1,", "P1", "", ""},
		{"no such column", "mac,name,network", "P1", "P1", "", ""},
		{"within its network", "mac,name,network,address", "P1,10.83.0.17", "P1", "10.83.0.17", ""},
		{"the first and the last that a device can have", "mac,name,address", "10.83.16.1", "P2", "10.83.16.1", ""},
		{"the last beside a gateway", "mac,name,address", "10.83.16.253", "P2", "10.83.16.253", ""},
		{"the network is the one that holds it", "mac,name,network,address", ",10.83.16.70", "P2", "10.83.16.70", ""},
		{"a spreadsheet's header", "MAC,Name,Network,Address", "P1, 10.83.0.17 ", "P1", "10.83.0.17", ""},
		{"not an address", "mac,name,network,address", "P1,10.83.0", "P1", "",
			`line 2: the address of P1-07, "10.83.0", is not an IPv4 address; write one of 10.83.0.0/26 (P1), or nothing`},
		{"leading zeros", "mac,name,address", "10.83.0.017", "", "",
			`line 2: the address of P1-07, "10.83.0.017", is not an IPv4 address; write one of 10.83.0.0/26 (P1), 10.83.16.0/24 (P2), or nothing`},
		{"with a length", "mac,name,network,address", "P2,10.83.16.17/24", "P2", "",
			`line 2: the address of P1-07, "10.83.16.17/24", is not an IPv4 address; write one of 10.83.16.0/24 (P2), or nothing`},
		{"IPv6", "mac,name,network,address", "P1,fd00::17", "P1", "",
			`line 2: the address of P1-07, "fd00::17", is not an IPv4 address; write one of 10.83.0.0/26 (P1), or nothing`},
		{"IPv4 in IPv6", "mac,name,network,address", "P1,::ffff:10.83.0.17", "P1", "",
			`line 2: the address of P1-07, "::ffff:10.83.0.17", is not an IPv4 address; write one of 10.83.0.0/26 (P1), or nothing`},
		{"outside of its network", "mac,name,network,address", "P1,10.83.16.17", "P1", "",
			"line 2: P1-07 cannot have 10.83.16.17; its address must be one of 10.83.0.0/26 (P1)"},
		{"outside of every network", "mac,name,address", "10.84.0.17", "", "",
			"line 2: P1-07 cannot have 10.84.0.17; its address must be one of 10.83.0.0/26 (P1), 10.83.16.0/24 (P2)"},
		{"of a network that is not there", "mac,name,network,address", "P9,10.83.0.17", "P9", "",
			`line 2: P1-07 belongs to network "P9", which the configuration does not have`},
		{"the gateway's", "mac,name,network,address", "P1,10.83.0.1", "P1", "",
			"line 2: P1-07 cannot have 10.83.0.1, which is the gateway's own; its address must be another one between 10.83.0.1 and 10.83.0.62, but not the gateway's, 10.83.0.1"},
		{"the subnet's", "mac,name,address", "10.83.16.0", "", "",
			"line 2: P1-07 cannot have 10.83.16.0, which is that of the subnet itself; its address must be another one between 10.83.16.1 and 10.83.16.254, but not the gateway's, 10.83.16.254"},
		{"broadcast", "mac,name,network,address", "P1,10.83.0.63", "P1", "",
			"line 2: P1-07 cannot have 10.83.0.63, which is the subnet's broadcast address; its address must be another one between 10.83.0.1 and 10.83.0.62, but not the gateway's, 10.83.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv, err := charger.ReadInventory(strings.NewReader(tt.header+"\n60:15:92:41:00:07,P1-07,"+tt.row+"\n"), garage)
			fault := ""
			if err != nil {
				fault = err.Error()
			}
			if diff := cmp.Diff(tt.fault, fault); diff != "" {
				t.Errorf("faults (-want +got)\n%s", diff)
			}
			want := charger.Charger{MAC: p107, Name: "P1-07", Network: tt.network}
			if tt.reserved != "" {
				want.Reserved = netip.MustParseAddr(tt.reserved)
			}
			if got := inv[p107]; got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// The second who wants an address keeps its name.
func TestOneAddressForTwo(t *testing.T) {
	inv, err := charger.ReadInventory(strings.NewReader(
		"mac,name,address\n60:15:92:41:00:07,P1-07,10.83.0.17\n60:15:92:41:00:08,P1-08,10.83.0.18\n60:15:92:41:00:09,P1-09,10.83.0.17\n"), garage)
	const want = "line 4: P1-09 cannot have 10.83.0.17: line 2 already gives it to P1-07; each charger needs its own"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	p109 := charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 9}
	if len(inv) != 3 || inv[p107].Reserved != addr7 || inv[p109].Reserved.IsValid() || inv[p109].Network != "" {
		t.Errorf("got %+v", inv)
	}
}

func FuzzInventory(f *testing.F) {
	f.Add("mac,name\n60:15:92:41:00:07,P1-07\n")
	f.Add("mac,name\n\"\n\n,,,\n")
	f.Add("\ufeffsep=;\r\nmac;name;;\r\n60:15:92:41:00:07;G\xe5rd 7;;\r\n")
	f.Add("mac,name,network,address\n60:15:92:41:00:07,P1-07,P1,10.83.0.17\n60:15:92:41:00:08,P1-08,,10.83.16.1\n60:15:92:41:00:09,P1-09,P2,10.83.16.1\n")
	f.Fuzz(func(t *testing.T, text string) {
		inv, _ := charger.ReadInventory(strings.NewReader(text), garage)
		names, addrs := map[string]bool{}, map[netip.Addr]bool{}
		for mac, c := range inv {
			if c.MAC != mac || c.Name == "" || names[c.Name] {
				t.Errorf("%q gave the row %+v", text, c)
			}
			names[c.Name] = true
			if !c.Reserved.IsValid() {
				continue
			}
			i := slices.IndexFunc(garage, func(n charger.Network) bool { return n.Name == c.Network })
			if i < 0 || !garage[i].Gateway.Contains(c.Reserved) || c.Reserved == garage[i].Gateway.Addr() || addrs[c.Reserved] {
				t.Errorf("%q keeps the wrong address for %+v", text, c)
			}
			addrs[c.Reserved] = true
		}
	})
}

var (
	p107  = charger.MAC{0x60, 0x15, 0x92, 0x41, 0x00, 0x07}
	addr7 = netip.MustParseAddr("10.83.0.17")
	start = time.Unix(1_800_000_000, 0)
)

// climb returns a book with P1-07 in it, and the stages it went through.
func climb() (*charger.Book, *[]string) {
	var moves []string
	b := charger.NewBook(charger.Inventory{p107: {MAC: p107, Name: "P1-07"}},
		func(c charger.Charger, from, to charger.Stage) {
			moves = append(moves, fmt.Sprintf("%s %s→%s", c.Name, from, to))
		})
	return b, &moves
}

func stage(b *charger.Book, now time.Time) charger.Status { return b.All(now)[0] }

func TestDayOfACharger(t *testing.T) {
	b, moves := climb()
	now := start
	if s := stage(b, now); s.Stage != charger.Wifi || !strings.Contains(s.Advice, "Communication mode") {
		t.Errorf("before anything: %s, %q", s.Stage, s.Advice)
	}
	b.Associated(p107, "P1", -67, now)
	b.Asked(p107, "P1", "Zaptec Go", now)
	b.Leased(p107, "P1", addr7, true, now)
	b.Resolved(addr7, now)
	b.Timed(addr7, now)
	b.Opened(addr7, true, now)
	opened := now
	if s := stage(b, now); s.Stage != charger.Cloud {
		t.Errorf("a conversation without an answer counts as %s", s.Stage)
	}
	b.Moved(addr7, true, 517, 2900, now)
	if s := stage(b, now); s.Stage != charger.OK || s.Advice != "" || s.UpToday != 517 || s.DownToday != 2900 || s.Signal != -67 {
		t.Errorf("online: %+v", s)
	}
	b.Closed(addr7, true, opened, now)
	b.Left(p107, "P1", now)
	want := []string{"P1-07 wifi→dhcp", "P1-07 dhcp→dns", "P1-07 dns→time", "P1-07 time→cloud", "P1-07 cloud→ok", "P1-07 ok→cloud", "P1-07 cloud→wifi"}
	if diff := cmp.Diff(want, *moves); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestGoodClockSkipsTheTime(t *testing.T) {
	b, moves := climb()
	b.Leased(p107, "P1", addr7, true, start)
	b.Opened(addr7, true, start)
	b.Moved(addr7, true, 1, 1, start)
	if diff := cmp.Diff([]string{"P1-07 wifi→dns", "P1-07 dns→ok"}, *moves); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// After a power cut the old conversation is still open on our side: it must not
// make a charger that is stuck look well.
func TestConversationFromBeforeTheBootDoesNotCount(t *testing.T) {
	b, _ := climb()
	b.Leased(p107, "P1", addr7, true, start)
	b.Opened(addr7, true, start)
	b.Moved(addr7, true, 1, 1, start)
	boot := start.Add(time.Hour)
	b.Asked(p107, "P1", "Zaptec Go", boot)
	b.Leased(p107, "P1", addr7, true, boot)
	if s := stage(b, boot); s.Stage != charger.DNS {
		t.Errorf("after the boot: %s, want dns", s.Stage)
	}
	b.Opened(addr7, true, boot)
	b.Moved(addr7, true, 1, 1, boot)
	b.Closed(addr7, true, start, boot.Add(time.Minute)) // the old one ends at last
	if s := stage(b, boot); s.Stage != charger.OK || s.Sessions != 1 {
		t.Errorf("the end of the old conversation took the new one away: %s, %d open", s.Stage, s.Sessions)
	}
}

func TestBindingFromDiskIsNotYetSeen(t *testing.T) {
	b, _ := climb()
	b.Leased(p107, "P1", addr7, false, start)
	s := stage(b, start)
	if mac, ok := b.At(addr7); !ok || mac != p107 || s.Stage != charger.Wifi || s.Address != addr7 {
		t.Errorf("%v %v %+v", mac, ok, s)
	}
}

// The Wi-Fi was gone for a moment: the charger asks for its address anew, and its
// conversation lives on.
func TestConversationThatOutlivesADiscover(t *testing.T) {
	b, _ := climb()
	b.Leased(p107, "P1", addr7, true, start)
	b.Opened(addr7, true, start)
	b.Moved(addr7, true, 1, 1, start)
	b.Asked(p107, "P1", "Zaptec Go", start.Add(time.Minute))
	b.Leased(p107, "P1", addr7, true, start.Add(time.Minute))
	if s := stage(b, start.Add(time.Minute)); s.Stage != charger.DNS {
		t.Errorf("after the DISCOVER: %s, want dns", s.Stage)
	}
	b.Moved(addr7, true, 2, 2, start.Add(2*time.Minute))
	if s := stage(b, start.Add(2*time.Minute)); s.Stage != charger.OK || s.Sessions != 1 {
		t.Errorf("the cloud answers: %s with %d open, want ok with 1", s.Stage, s.Sessions)
	}
	b.Closed(addr7, true, start, start.Add(3*time.Minute))
	if s := stage(b, start.Add(3*time.Minute)); s.Stage == charger.OK || s.Sessions != 0 {
		t.Errorf("after its end: %s with %d open", s.Stage, s.Sessions)
	}
}

func TestAddressThatMovesOnIsShownOnce(t *testing.T) {
	b, _ := climb()
	for i := range 20_000 {
		mac := charger.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}
		b.Asked(mac, "P1", "", start.Add(time.Duration(i)))
		b.Leased(mac, "P1", addr7, true, start.Add(time.Duration(i)))
	}
	holders := 0
	all := b.All(start)
	for _, s := range all {
		if s.Address == addr7 {
			holders++
		}
	}
	if holders != 1 || len(all) > 300 {
		t.Errorf("%d are remembered, %d with the same address", len(all), holders)
	}
}

// The Wi-Fi was gone for a while and the conversation outlived that: only bytes
// from the cloud prove it.
func TestConversationThatOutlivesTheWifi(t *testing.T) {
	b, _ := climb()
	b.Leased(p107, "P1", addr7, true, start)
	b.Opened(addr7, true, start)
	b.Moved(addr7, true, 1, 1, start)
	b.Left(p107, "P1", start.Add(time.Minute))
	b.Associated(p107, "P1", -70, start.Add(2*time.Minute))
	if s := stage(b, start.Add(2*time.Minute)); s.Stage != charger.DHCP {
		t.Errorf("back on the Wi-Fi: %s, want dhcp", s.Stage)
	}
	b.Moved(addr7, true, 2, 2, start.Add(3*time.Minute))
	if s := stage(b, start.Add(3*time.Minute)); s.Stage != charger.OK {
		t.Errorf("the cloud answers: %s, want ok", s.Stage)
	}
}

func TestWithoutAnInventoryNobodyIsAStranger(t *testing.T) {
	b := charger.NewBook(nil, nil)
	b.Asked(p107, "P1", "Zaptec Go", start)
	if got := charger.Summary(b.All(start)); got != "1 charger: 1 dhcp" {
		t.Error(got)
	}
}

func TestAddressBelongsToOneCharger(t *testing.T) {
	b, _ := climb()
	other := charger.MAC{0x60, 0x15, 0x92, 0x41, 0x00, 0x08}
	b.Leased(p107, "P1", addr7, true, start)
	b.Leased(other, "P1", addr7, true, start) // the first one's binding expired
	b.Unleased(p107, "P1", start)             // and must not take the second one's away
	if mac, ok := b.At(addr7); !ok || mac != other {
		t.Errorf("the address belongs to %v, %v", mac, ok)
	}
}

func TestBytesTodayBeginAgainAtMidnight(t *testing.T) {
	b, _ := climb()
	evening := time.Date(2026, 11, 20, 23, 59, 0, 0, time.Local)
	b.Leased(p107, "P1", addr7, true, evening)
	b.Moved(addr7, true, 100, 200, evening)
	morning := evening.Add(2 * time.Minute)
	if s := stage(b, morning); s.UpToday != 0 || s.Up != 100 {
		t.Errorf("after midnight: %+v", s)
	}
	b.Moved(addr7, true, 1, 2, morning)
	if s := stage(b, morning); s.UpToday != 1 || s.DownToday != 2 || s.Down != 202 {
		t.Errorf("in the new day: %+v", s)
	}
}

func TestStrangersAreBounded(t *testing.T) {
	b, _ := climb()
	for i := range 10_000 {
		b.Asked(charger.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}, "P1", "", start.Add(time.Duration(i)))
	}
	all := b.All(start)
	if len(all) > 300 {
		t.Errorf("%d are remembered", len(all))
	}
	if !all[0].Known || all[len(all)-1].Known {
		t.Error("strangers do not come last")
	}
}

func TestSortsAsPeopleCount(t *testing.T) {
	inv := charger.Inventory{}
	want := []string{"P1-2", "P1-10", "P2-1", "P2-01a", "Q"}
	for i, name := range []string{"P2-01a", "P1-10", "Q", "P1-2", "P2-1"} {
		mac := charger.MAC{0x60, 0x15, 0x92, 0x41, 0, byte(i)}
		inv[mac] = charger.Charger{MAC: mac, Name: name}
	}
	var got []string
	for _, s := range charger.NewBook(inv, nil).All(start) {
		got = append(got, s.Name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestAdviceFitsTheTrouble(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(b *charger.Book)
		want string
	}{
		{"on the Wi-Fi without an address", func(b *charger.Book) { b.Associated(p107, "P1", -60, start) }, "has no address"},
		{"asks for no name", func(b *charger.Book) { b.Leased(p107, "P1", addr7, true, start) }, "asks for no name"},
		{"no time", func(b *charger.Book) { b.Leased(p107, "P1", addr7, true, start); b.Resolved(addr7, start) }, "knows the time itself"},
		{"does not call", func(b *charger.Book) { b.Leased(p107, "P1", addr7, true, start); b.Timed(addr7, start) }, "does not call the cloud"},
		{"refused a name", func(b *charger.Book) {
			b.Leased(p107, "P1", addr7, true, start)
			b.Timed(addr7, start)
			b.Refused(addr7, "new.zaptec.com on port 443", start)
		}, "refused new.zaptec.com on port 443"},
		{"refused what may be its firmware", func(b *charger.Book) {
			b.Leased(p107, "P1", addr7, true, start)
			b.Timed(addr7, start)
			b.RefusedFirmware(addr7, "firmware.example.com", start)
		}, "refused the name firmware.example.com, where its firmware may come from now"},
		{"refused what may be its firmware, and works", func(b *charger.Book) {
			b.Leased(p107, "P1", addr7, true, start.Add(-24*time.Hour))
			b.Opened(addr7, true, start)
			b.Moved(addr7, true, 1, 1, start)
			b.RefusedFirmware(addr7, "firmware.example.com", start.Add(-23*time.Hour))
			b.Refused(addr7, "the name example.com", start)
		}, "Works, but was refused firmware.example.com"},
		{"the uplink is down", func(b *charger.Book) {
			b.Leased(p107, "P1", addr7, true, start)
			b.Timed(addr7, start)
			b.Unreachable(addr7, "zapcloud.azure-devices.net (its address cannot be found)", start)
		}, "Could not reach zapcloud.azure-devices.net (its address cannot be found)"},
		{"the cloud hangs up", func(b *charger.Book) {
			b.Leased(p107, "P1", addr7, true, start)
			b.Timed(addr7, start)
			for range 3 {
				b.Opened(addr7, true, start)
				b.Closed(addr7, true, start, start.Add(2*time.Second))
			}
		}, "activated in the portal"},
		{"one short conversation proves nothing", func(b *charger.Book) {
			b.Leased(p107, "P1", addr7, true, start)
			b.Timed(addr7, start)
			b.Opened(addr7, true, start)
			b.Closed(addr7, true, start, start.Add(2*time.Second))
		}, "does not call the cloud"},
		{"it was online until a moment ago", func(b *charger.Book) {
			b.Leased(p107, "P1", addr7, true, start.Add(-time.Hour))
			b.Timed(addr7, start.Add(-time.Hour))
			b.Opened(addr7, true, start.Add(-time.Hour))
			b.Moved(addr7, true, 1, 1, start.Add(-time.Minute))
			b.Closed(addr7, true, start.Add(-time.Hour), start)
		}, "calls again by itself"},
		{"opened, not answered", func(b *charger.Book) {
			b.Leased(p107, "P1", addr7, true, start)
			b.Timed(addr7, start)
			b.Opened(addr7, true, start)
		}, "has not answered yet"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, _ := climb()
			tt.do(b)
			if got := stage(b, start.Add(time.Minute)).Advice; !strings.Contains(got, tt.want) {
				t.Errorf("advice %q does not speak of %q", got, tt.want)
			}
		})
	}
}

func TestSummaryCountsFromTheTop(t *testing.T) {
	b, _ := climb()
	if got := charger.Summary(b.All(start)); got != "1 charger: 1 wifi" {
		t.Error(got)
	}
	other := charger.MAC{0x60, 0x15, 0x92, 0x41, 0x00, 0x08}
	b.Replace(charger.Inventory{p107: {MAC: p107, Name: "P1-07"}, other: {MAC: other, Name: "P1-08"}})
	b.Leased(other, "P1", addr7, true, start)
	b.Asked(charger.MAC{2, 0, 0, 0, 0, 9}, "P1", "phone", start)
	if got := charger.Summary(b.All(start)); got != "2 chargers: 1 dns, 1 wifi; 1 not in the inventory" {
		t.Error(got)
	}
}

func TestChargerOnItsWayNeedsNoAdvice(t *testing.T) {
	b, _ := climb()
	b.Leased(p107, "P1", addr7, true, start)
	if s := stage(b, start.Add(5*time.Second)); s.Advice != "" {
		t.Errorf("after 5 s: %q", s.Advice)
	}
	b.Heard(addr7, start.Add(25*time.Second)) // a sign of life is not a step
	if s := stage(b, start.Add(25*time.Second)); s.Advice == "" || !s.Since.Equal(start) {
		t.Errorf("after 25 s on the same step: %q since %v", s.Advice, s.Since)
	}
}

// A charger's MAC is easily copied: whoever uses it on another network than the
// inventory says takes nothing from the charger, and has a story of its own.
func TestAChargersMACOnAnotherNetworkIsSomebodyElse(t *testing.T) {
	a1, a2 := netip.MustParseAddr("10.83.0.20"), netip.MustParseAddr("10.83.16.20")
	var moves []string
	inv := charger.Inventory{p107: {MAC: p107, Name: "P1-07", Network: "P1"}}
	b := charger.NewBook(inv, func(c charger.Charger, from, to charger.Stage) {
		moves = append(moves, fmt.Sprintf("%s %s→%s", c.Name, from, to))
	})
	now := start
	b.Leased(p107, "P1", a1, true, now)
	b.Resolved(a1, now)
	b.Timed(a1, now)
	b.Opened(a1, true, now)
	b.Moved(a1, true, 10, 10, now)
	online := func(when string) {
		t.Helper()
		b.Moved(a1, true, 10, 10, now)
		at, held := b.At(a1)
		network, addr := b.Where(p107)
		if stage := b.StageOf(p107); stage != charger.OK || !held || at != p107 || network != "P1" || addr != a1 || b.NameAt(a1) != "P1-07" {
			t.Errorf("%s the charger is at %s, its address is held: %t, it is on %s with %s", when, stage, held, network, addr)
		}
	}
	online("before anything")
	b.Asked(p107, "P2", "somebody", now)
	online("after a DISCOVER elsewhere")
	b.Leased(p107, "P2", a2, true, now)
	online("after a REQUEST elsewhere")
	b.Associated(p107, "P2", -80, now)
	online("while it is on the radio elsewhere")
	if at, held := b.At(a2); !held || at != p107 || b.NameAt(a2) != "unknown 60:15:92:41:00:07" {
		t.Errorf("the other's address is held: %t, by %s", held, b.NameAt(a2))
	}
	all := b.All(now)
	if len(all) != 2 || !all[0].Known || all[0].Name != "P1-07" || all[1].Known || all[1].Network != "P2" || all[1].Address != a2 || all[1].Stage != charger.DNS {
		t.Fatalf("%+v", all)
	}
	if want := "Has the MAC address of P1-07, which the inventory has on P1. If that charger is on P2 now, correct its row; if not, find out what this device is."; all[1].Advice != want {
		t.Errorf("advice: %s", all[1].Advice)
	}
	if !b.Left(p107, "P2", now) {
		t.Error("it has left P2, and was not there")
	}
	b.Unleased(p107, "P2", now)
	online("after a RELEASE elsewhere")
	if _, held := b.At(a2); held {
		t.Error("the other's address is still held")
	}
	if want := []string{"P1-07 wifi→dns", "P1-07 dns→time", "P1-07 time→cloud", "P1-07 cloud→ok"}; !cmp.Equal(want, moves[:4]) {
		t.Errorf("moves: %q", moves)
	}
	for _, m := range moves[4:] {
		if !strings.HasPrefix(m, "unknown 60:15:92:41:00:07 ") {
			t.Errorf("the charger made the move %s", m)
		}
	}

	// The row is corrected: what was seen on P2 is the charger's story now.
	b.Leased(p107, "P2", a2, true, now.Add(time.Minute))
	b.Replace(charger.Inventory{p107: {MAC: p107, Name: "P2-01", Network: "P2"}})
	if network, addr := b.Where(p107); network != "P2" || addr != a2 || b.NameAt(a2) != "P2-01" || b.NameAt(a1) == "P2-01" {
		t.Errorf("after its row was corrected the charger is on %s with %s, %q; %q has its old address", network, addr, b.NameAt(a2), b.NameAt(a1))
	}
}

// At a start the book hears of all bindings on disk: the charger's own is the one
// of its own network, whichever was made last.
func TestAtAStartAChargersBindingIsThatOfItsOwnNetwork(t *testing.T) {
	a1, a2 := netip.MustParseAddr("10.83.0.20"), netip.MustParseAddr("10.83.16.20")
	for _, order := range [][]string{{"P1", "P2"}, {"P2", "P1"}} {
		b := charger.NewBook(charger.Inventory{p107: {MAC: p107, Name: "P1-07", Network: "P1"}}, nil)
		for _, n := range order {
			b.Leased(p107, n, map[string]netip.Addr{"P1": a1, "P2": a2}[n], false, start)
		}
		if network, addr := b.Where(p107); network != "P1" || addr != a1 {
			t.Errorf("%v: it is on %s with %s", order, network, addr)
		}
		for _, a := range []netip.Addr{a1, a2} {
			if _, held := b.At(a); !held {
				t.Errorf("%v: nobody holds %s", order, a)
			}
		}
	}
}

// Strangers are forgotten when there are too many, and none that has an address.
func TestOnlySoManyStrangersAreRemembered(t *testing.T) {
	b := charger.NewBook(charger.Inventory{p107: {MAC: p107, Name: "P1-07", Network: "P1"}}, nil)
	of := func(n int) charger.MAC { return charger.MAC{2, 0, 0, 0, byte(n >> 8), byte(n)} }
	for n := range 2000 {
		now := start.Add(time.Duration(n) * time.Second)
		b.Asked(of(n), "P1", "", now)
		if n%200 == 0 {
			b.Leased(of(n), "P1", netip.AddrFrom4([4]byte{10, 83, 0, byte(n / 200)}), true, now)
		}
		if n%400 == 0 {
			b.Unleased(of(n), "P1", now)
		}
		if n == 1000 {
			b.Replace(charger.Inventory{p107: {MAC: p107, Name: "P1-07", Network: "P1"}})
		}
	}
	strangers, holders, oldest := 0, 0, start.Add(time.Hour)
	for _, s := range b.All(start.Add(time.Hour)) {
		switch {
		case s.Known:
		case s.Address.IsValid():
			holders++
		default:
			strangers++
			if s.LastSeen.Before(oldest) {
				oldest = s.LastSeen
			}
		}
	}
	if strangers > 256 || strangers < 200 || holders != 5 || oldest.Before(start.Add(1700*time.Second)) {
		t.Errorf("%d are remembered since %s, and %d with an address; want some 256 since the last minutes, and 5", strangers, oldest, holders)
	}
}
