package revive

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// may is whether a step of P1 is within its limits.
func (r *record) ok(s Step, now time.Duration) bool {
	ok, _ := r.may("P1", s, now)
	return ok
}

func TestLimits(t *testing.T) {
	const h = time.Hour
	for name, tt := range map[string]struct {
		step Step
		at   []time.Duration // when the step was taken
		now  time.Duration
		want string // why not
	}{
		"the first reboot":                      {Reboot, nil, h, ""},
		"a second one within the hour":          {Reboot, []time.Duration{h}, h + 59*time.Minute, `of "reboot" there are at most 1 in 1h; the next may come in 1m`},
		"a second one after the hour":           {Reboot, []time.Duration{h}, 2 * h, ""},
		"a fourth one within the day":           {Reboot, []time.Duration{0, 2 * h, 4 * h}, 20 * h, `of "reboot" there are at most 3 in 24h; the next may come in 4h`},
		"a fourth one after the day":            {Reboot, []time.Duration{0, 2 * h, 4 * h}, 24 * h, ""},
		"a seventh restart within the hour":     {Restart, []time.Duration{0, 1, 2, 3, 4, 5}, 30 * time.Minute, `of "restart" there are at most 6 in 1h; the next may come in 30m`},
		"a third start of the driver":           {Driver, []time.Duration{0, 10 * time.Minute}, 30 * time.Minute, `of "driver" there are at most 2 in 1h; the next may come in 30m`},
		"reboots of before this boot count":     {Reboot, []time.Duration{-10 * time.Minute}, 20 * time.Minute, `of "reboot" there are at most 1 in 1h; the next may come in 30m`},
		"and are over when the hour has passed": {Reboot, []time.Duration{-10 * time.Minute}, 50 * time.Minute, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRecord()
			for _, at := range tt.at {
				r.deeds = append(r.deeds, deed{"P1", tt.step, at})
			}
			if ok, why := r.may("P1", tt.step, tt.now); ok != (tt.want == "") || why != tt.want {
				t.Errorf("%v, %q; want %q", ok, why, tt.want)
			}
			if tt.step == Reboot || tt.want == "" {
				return
			}
			if ok, why := r.may("P2", tt.step, tt.now); !ok {
				t.Errorf("another radio has limits of its own: %s", why)
			}
		})
	}
}

// TestReboots: the limits of reboots hold over reboots and power cuts, though the
// box has no clock. Between two boots nobody knows how much time passes.
func TestReboots(t *testing.T) {
	const min = time.Minute
	r := newRecord()
	r.add("P1", Reboot, 10*min)
	file := r.encode("first", 10*min)

	again := func(boot string, now time.Duration) *record {
		t.Helper()
		r, err := decode(file, boot, now)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r = again("first", 30*min); r.ok(Reboot, 69*min) || !r.ok(Reboot, 70*min) {
		t.Error("after a restart of the service the hour is another one")
	}
	if r = again("second", 1*min); r.ok(Reboot, 59*min) || !r.ok(Reboot, 60*min) {
		t.Error("after a reboot an hour of the new boot must pass")
	}
	file = r.encode("second", 40*min) // noted: 40 minutes of service have passed
	if r = again("third", 1*min); r.ok(Reboot, 19*min) || !r.ok(Reboot, 20*min) {
		t.Error("what is noted of the second boot counts in the third")
	}
	if r = again("", 50*min); r.ok(Reboot, 109*min) || !r.ok(Reboot, 110*min) {
		t.Error("where the boot cannot be told it counts as done just now")
	}
	if r = again("second", 5*min); r.ok(Reboot, 64*min) || !r.ok(Reboot, 65*min) {
		t.Error("a file of this boot's future counts as done just now")
	}
}

func TestRebootsInVain(t *testing.T) {
	r := newRecord()
	for i := range 3 {
		if !r.ok(Reboot, time.Duration(i)*10*time.Hour) {
			t.Fatalf("reboot %d is not allowed", i+1)
		}
		r.add("P1", Reboot, time.Duration(i)*10*time.Hour)
	}
	if ok, why := r.may("P1", Reboot, 1000*time.Hour); ok || why != "3 reboots in a row have not brought it back" {
		t.Errorf("%v, %q", ok, why)
	}
	if ok, _ := r.may("P2", Reboot, 1000*time.Hour); !ok {
		t.Error("another radio may need one")
	}
	if r.counts["P1"].Reboots != 3 || len(r.forget(1000*time.Hour)) != 0 {
		t.Errorf("%+v, %d deeds", r.counts, len(r.deeds))
	}
}

func TestRecordIsReadAsItWasWritten(t *testing.T) {
	r := newRecord()
	r.where["P1"] = device{"wlan0", "bus/sdio/drivers/brcmfmac", []string{"mmc1:0001:1", "mmc1:0001:2"}, "phy0"}
	r.add("P1", Restart, 90*time.Minute)
	r.add("P1", Reboot, 100*time.Minute)
	r.signs["P1"] = "the kernel's log says \"halted\""
	got, err := decode(r.encode("x", 101*time.Minute), "x", 102*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, got, cmp.AllowUnexported(record{}, deed{}, device{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestFileSurvivesWhatTheDiskDoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), fileName)
	if data, err := readFile(path); data != nil || err != nil {
		t.Errorf("no file: %q, %v", data, err)
	}
	if err := replaceFile(path, []byte("one\n")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+tmpSuffix, []byte("tor"), 0o600); err != nil { // a power cut in the next write
		t.Fatal(err)
	}
	if data, err := readFile(path); string(data) != "one\n" || err != nil {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := os.Stat(path + tmpSuffix); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a power cut left behind is still there: %v", err)
	}
	if _, err := readFile(filepath.Dir(path)); err == nil {
		t.Error("a directory was read")
	}
}

// FuzzRecord: whatever stands in the file, it is refused or gives a record that can
// be used, and that says of nothing that it lies in the future.
func FuzzRecord(f *testing.F) {
	r := newRecord()
	r.add("P1", Reboot, 90*time.Minute)
	f.Add(r.encode("x", 2*time.Hour), true)
	f.Add(r.encode("y", 2*time.Hour), true)
	f.Add([]byte(`{"boot":"x","uptime":1e300,"deeds":[{"step":"reboot","at":-1e300}],"counts":null,"in_vain":{"P1":-5}}`+"\n"), false)
	f.Add([]byte(`{"boot":"x","uptime":7200,"deeds":[{"network":"P1","step":"reboot","at":7300}]}`+"\n"), false)
	f.Fuzz(func(t *testing.T, data []byte, whole bool) {
		if !whole { // get past the checksum
			data = sealed(data)
		}
		const now = 2 * time.Hour
		r, err := decode(data, "x", now)
		if err != nil {
			return
		}
		for _, d := range r.deeds {
			if d.at > now || d.step <= No || d.step > Reboot {
				t.Fatalf("%+v", d)
			}
		}
		for s := Restart; s <= Reboot; s++ {
			r.may("P1", s, now)
			r.add("P1", s, now)
		}
		if _, err := decode(r.encode("x", now), "x", now); err != nil && len(r.deeds) < maxDeeds {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}
