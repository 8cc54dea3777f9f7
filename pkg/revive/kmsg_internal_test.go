package revive

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseLine(t *testing.T) {
	for name, tt := range map[string]struct {
		in   string
		want Line
	}{
		"the driver's line": {"3,1187,79829386376,-;brcmfmac: brcmf_sdio_hostmail: mailbox indicates firmware halted\n",
			Line{0, 3, 1187, 79829386376 * time.Microsecond, "brcmfmac: brcmf_sdio_hostmail: mailbox indicates firmware halted", ""}},
		"with a dictionary": {"6,5589,30345712980,-;brcmfmac mmc1:0001:1 wlan0: left promiscuous mode\n SUBSYSTEM=net\n DEVICE=+sdio:mmc1:0001:1\n",
			Line{0, 6, 5589, 30345712980 * time.Microsecond, "brcmfmac mmc1:0001:1 wlan0: left promiscuous mode", "+sdio:mmc1:0001:1"}},
		"written by a program":     {"12,5,1,-;hello\n", Line{1, 4, 5, time.Microsecond, "hello", ""}},
		"with fields of tomorrow":  {"4,5,1,-,caller=T1;x", Line{0, 4, 5, time.Microsecond, "x", ""}},
		"several lines and others": {`4,5,1,c;a\x0ab\x5cx41 \xc3\xa4\xzz` + "\n", Line{0, 4, 5, time.Microsecond, "a\nb\\x41 ä\\xzz", ""}},
		"nothing to say":           {"4,5,1,-;\n", Line{0, 4, 5, time.Microsecond, "", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseLine([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	for _, in := range []string{"", "\n", "hello", "4,5,1;x", "x,5,1,-;x", "4,-5,1,-;x", "4,5,-1,-;x", "99999999,5,1,-;x", "4,5,9223372036854775807,-;x", ";", ",,,;"} {
		if l, err := ParseLine([]byte(in)); !errors.Is(err, errLine) {
			t.Errorf("%q: %+v, %v", in, l, err)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	for _, in := range []string{"3,1187,79829386376,-;brcmfmac: x\n DEVICE=+sdio:mmc1:0001:1\n", `4,5,1,c;a\x0a\x`, "4,5,1,-;\n DEVICE=\n DEVICE="} {
		f.Add([]byte(in))
	}
	d := device{"wlan0", "bus/sdio/drivers/brcmfmac", []string{"mmc1:0001:1"}, "phy0"}
	f.Fuzz(func(t *testing.T, in []byte) {
		l, err := ParseLine(in)
		if err != nil {
			return
		}
		if l.At < 0 || l.Level > 7 || len(l.Text) > len(in) || len(l.Device) > len(in) {
			t.Fatalf("%+v", l)
		}
		if d.halted(l) && (!halts(l) || l.Facility != 0) {
			t.Fatalf("a line counts that is not handed on: %+v", l)
		}
	})
}

func TestHalted(t *testing.T) {
	pi := device{"wlan0", "bus/sdio/drivers/brcmfmac", []string{"mmc1:0001:1", "mmc1:0001:2"}, "phy0"}
	stick := device{"wlan1", "bus/usb/drivers/mt76x2u", []string{"1-1.2:1.0"}, "phy1"}
	const says = "brcmf_sdio_hostmail: mailbox indicates firmware halted"
	for name, tt := range map[string]struct {
		line Line
		want bool // of the Pi's own radio; never of the stick
	}{
		"the driver alone":                        {Line{Text: "brcmfmac: " + says}, true},
		"with the record's device":                {Line{Text: "brcmfmac: " + says, Device: "+sdio:mmc1:0001:1"}, true},
		"with another card's":                     {Line{Text: "brcmfmac: " + says, Device: "+sdio:mmc2:0001:1"}, false},
		"the driver and the device":               {Line{Text: "brcmfmac mmc1:0001:1: " + says}, true},
		"the driver and another device":           {Line{Text: "brcmfmac mmc2:0001:1: " + says}, false},
		"the radio":                               {Line{Text: "ieee80211 phy0: brcmf_fw_crashed: Firmware has halted or crashed", Device: "+ieee80211:phy0"}, true},
		"another radio":                           {Line{Text: "ieee80211 phy1: brcmf_fw_crashed: Firmware has halted or crashed"}, false},
		"the bus has gone":                        {Line{Text: "brcmfmac: brcmf_sdio_dpc: failed backplane access over SDIO, halting operation"}, true},
		"written by a program, not by the kernel": {Line{Facility: 1, Text: "brcmfmac: " + says}, false},
		"a stick that is called so":               {Line{Text: "usb 1-1: Product: brcmfmac: " + says}, false},
		"a firmware that says so":                 {Line{Text: "brcmfmac: CONSOLE: 000001.2 " + says}, false},
		"something behind it":                     {Line{Text: "brcmfmac: " + says + ", not"}, false},
		"another driver":                          {Line{Text: "mt76x2u: " + says}, false},
		"any other line of the driver":            {Line{Text: "brcmfmac: brcmf_sdio_bus_rxctl: resumed on timeout"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := pi.halted(tt.line); got != tt.want {
				t.Errorf("the Pi's own radio: %v", got)
			}
			if stick.halted(tt.line) || (device{}).halted(tt.line) {
				t.Error("it counts for a radio of another driver, or for one that nobody has found")
			}
			if tt.want && !halts(tt.line) {
				t.Error("it is not handed on")
			}
		})
	}
}

// kmsg makes a pipe that keeps records apart, as /dev/kmsg does, and writes to it.
func kmsg(t *testing.T) (path string, say func(string)) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "kmsg")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_DIRECT|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("no pipes with packets here: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return path, func(record string) {
		if _, err := unix.Write(fd, []byte(record)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFollowHearsRecordByRecord(t *testing.T) {
	path, say := kmsg(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	say("3,1,10,-;one\n DEVICE=+a:b\n")
	say("no record at all")
	say("3,2,20,-;two\n")
	var got []string
	err := follow(ctx, path, func(l Line) {
		if got = append(got, l.Text); len(got) == 2 {
			cancel()
		}
	})
	if err != nil || strings.Join(got, " ") != "one two" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestFollowSaysWhatIsMissing(t *testing.T) {
	if err := follow(t.Context(), filepath.Join(t.TempDir(), "kmsg"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	path := filepath.Join(t.TempDir(), "kmsg")
	if err := os.WriteFile(path, []byte("3,1,10,-;one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := follow(t.Context(), path, func(l Line) { t.Errorf("what was there before counts: %+v", l) }); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}

// TestTheKernelsOwnLog reads what this machine's kernel has said, every record of it,
// and hears none of it when it begins as the service does.
func TestTheKernelsOwnLog(t *testing.T) {
	f, err := os.OpenFile("/dev/kmsg", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("the kernel's log cannot be read here: %v", err)
	}
	defer f.Close()
	if err := f.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	buf, read := make([]byte, maxLine), uint64(0)
	last := Line{}
	for range 100_000 {
		n, err := f.Read(buf)
		if errors.Is(err, unix.EPIPE) {
			continue
		}
		if err != nil {
			break
		}
		l, err := ParseLine(buf[:n])
		if err != nil {
			t.Fatalf("%q: %v", buf[:n], err)
		}
		if read > 0 && l.Seq <= last.Seq {
			t.Fatalf("record %d after %d", l.Seq, last.Seq)
		}
		last = l
		read++
	}
	if read == 0 {
		t.Skip("this kernel has said nothing")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err = follow(ctx, "/dev/kmsg", func(l Line) {
		if l.Seq <= last.Seq {
			t.Errorf("what was said before counts again: %+v", l)
		}
	})
	if err != nil {
		t.Error(err)
	}
}
