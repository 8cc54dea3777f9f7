package main

import (
	"bytes"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/config"
	"chargegate/pkg/event"
)

// settled opens a house with the inventory given. sayings returns what was said
// since the last call, by the events that speak of the inventory or a reload.
func settled(t *testing.T, csv string) (h *house, path string, sayings func() []string) {
	t.Helper()
	path = write(t, map[string]string{"chargegate.toml": good, "chargers.csv": csv})
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	h, err = open(cfg, nil, options{config: path, state: t.TempDir(), run: t.TempDir()}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.flush()
		if err := h.leases.Close(); err != nil {
			t.Error(err)
		}
	})
	var last uint64
	return h, path, func() []string {
		var messages []string
		for _, r := range h.log.Recent(last, "") {
			last = r.Seq
			if strings.HasPrefix(r.Kind.ID, "inventory-") || strings.HasPrefix(r.Kind.ID, "daemon-reload") {
				messages = append(messages, strings.ReplaceAll(r.Kind.ID+": "+r.Message, filepath.Dir(path), "DIR"))
			}
		}
		return messages
	}
}

// A technician saves the list halfway, in the wrong form, and at last as it
// should be: nobody loses a name in between.
func TestReloadKeepsTheInventoryThatAnUnusableOneWouldReplace(t *testing.T) {
	h, path, sayings := settled(t, "mac,name\n60:15:92:41:00:07,P1-07\n60:15:92:41:00:08,P1-08\n")
	if diff := cmp.Diff([]string{"inventory-loaded: the inventory names 2 chargers"}, sayings()); diff != "" {
		t.Errorf("at the start (-want +got)\n%s", diff)
	}
	const kept = "inventory-kept: DIR/chargers.csv names no charger any more; the inventory from before stays in force, with 2 chargers"
	const unchanged = "daemon-reloaded: reloaded: nothing has changed"
	for _, step := range []struct {
		name, csv string
		names     int
		want      []string
	}{
		{"no header", "60:15:92:41:00:07,P1-07\n", 2,
			[]string{"inventory-fault: the inventory has a fault: line 1: the first line must name the columns, like: mac,name,serial,model", kept, unchanged}},
		{"every row swapped", "mac,name,serial\n60:15:92:41:00:07,ZAP000007,P1-07\n", 2,
			[]string{"inventory-fault: the inventory has a fault: line 2: serial and name seem swapped: ZAP000007 is a serial number; the name is the parking space, like P1-07", kept, unchanged}},
		{"empty", "", 2, []string{kept, unchanged}},
		{"one row left", "mac;name\n60:15:92:41:00:07;P1-07\nnonsense;P1-08\n", 1,
			[]string{`inventory-fault: the inventory has a fault: line 3: "nonsense" is not a MAC address; write six pairs of hexadecimal digits, like 60:15:92:41:00:07`,
				"inventory-loaded: the inventory names 1 charger", "daemon-reloaded: reloaded: the inventory; nothing else has changed"}},
	} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), "chargers.csv"), []byte(step.csv), 0o600); err != nil {
			t.Fatal(err)
		}
		h.reload()
		if diff := cmp.Diff(step.want, sayings()); diff != "" {
			t.Errorf("%s (-want +got)\n%s", step.name, diff)
		}
		if n := h.book.Inventory(""); n != step.names {
			t.Errorf("%s: %d names are in force, want %d", step.name, n, step.names)
		}
	}
	// Taking the line out of the configuration is meant so.
	if err := os.WriteFile(path, []byte(strings.Replace(good, `inventory = "chargers.csv"`, "", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	h.reload()
	if n := h.book.Inventory(""); n != 0 {
		t.Errorf("without an inventory %d names are in force", n)
	}
	if diff := cmp.Diff([]string{"daemon-reloaded: reloaded: site.inventory"}, sayings()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A path that leads nowhere takes nothing over, and does not say that it did.
func TestReloadWithAnInventoryThatIsNotThere(t *testing.T) {
	h, path, sayings := settled(t, "mac,name\n60:15:92:41:00:07,P1-07\n")
	sayings()
	if err := os.WriteFile(path, []byte(strings.Replace(good, "chargers.csv", "none.csv", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	h.reload()
	want := []string{
		"inventory-fault: the inventory has a fault: opening the inventory: open DIR/none.csv: no such file or directory",
		"inventory-kept: DIR/none.csv names no charger any more; the inventory from before stays in force, with 1 charger",
		"daemon-reloaded: reloaded: nothing has changed",
	}
	if diff := cmp.Diff(want, sayings()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What the inventory keeps for a charger is in force from the start, follows a
// reload, and stays when the new inventory cannot be used.
func TestReservedAddressesFollowTheInventory(t *testing.T) {
	h, path, sayings := settled(t, "mac,name,address\n60:15:92:41:00:07,P1-07,10.83.0.200\n60:15:92:41:00:08,P1-08,\n")
	seven, eight := [6]byte{0x60, 0x15, 0x92, 0x41, 0, 7}, [6]byte{0x60, 0x15, 0x92, 0x41, 0, 8}
	offered := func(hw [6]byte) string {
		t.Helper()
		addr, err := h.leases.Offer("P1", hw, netip.Addr{}, true, h.began)
		if err != nil {
			t.Fatal(err)
		}
		h.leases.Forgo("P1", hw)
		return addr.String()
	}
	for _, step := range []struct{ name, csv, seven, fault string }{
		{"at the start", "", "10.83.0.200", ""},
		{"another one", "mac,name,address\n60:15:92:41:00:07,P1-07,10.83.0.201\n", "10.83.0.201", ""},
		{"an inventory that cannot be used", "mac,address\n", "10.83.0.201", `line 1: no column "name"; the first line names the columns, like: mac,name,serial,model,network`},
		{"the gateway's", "mac,name,address\n60:15:92:41:00:07,P1-07,10.83.0.1\n", "", "line 2: P1-07 cannot have 10.83.0.1, which is the gateway's own; its address must be another one between 10.83.0.1 and 10.83.0.254"},
		{"none", "mac,name\n60:15:92:41:00:07,P1-07\n", "", ""},
	} {
		if step.csv != "" {
			if err := os.WriteFile(filepath.Join(filepath.Dir(path), "chargers.csv"), []byte(step.csv), 0o600); err != nil {
				t.Fatal(err)
			}
			h.reload()
		}
		said := strings.Join(sayings(), "\n")
		if fault := "inventory-fault: the inventory has a fault: " + step.fault; strings.Contains(said, fault) == (step.fault == "") {
			t.Errorf("%s: said %s", step.name, said)
		}
		if got := offered(seven); step.seven != "" && got != step.seven || step.seven == "" && strings.HasPrefix(got, "10.83.0.20") {
			t.Errorf("%s: P1-07 is offered %s, want %q", step.name, got, step.seven)
		}
		if got := offered(eight); strings.HasPrefix(got, "10.83.0.20") {
			t.Errorf("%s: P1-08 is offered %s", step.name, got)
		}
	}
}

// The strangers' range of good is 10.83.0.34 to .41.
func TestTooManyReservedAddressesAreSaid(t *testing.T) {
	h, path, sayings := settled(t, kept(33, 5))
	const small = "inventory-strangers-small: network P1 has 3 of 8 addresses left for devices that are not in the inventory; the others are kept for chargers"
	if diff := cmp.Diff([]string{"inventory-loaded: the inventory names 5 chargers", small}, sayings()); diff != "" {
		t.Errorf("at the start (-want +got)\n%s", diff)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "chargers.csv"), []byte(kept(41, 5)), 0o600); err != nil {
		t.Fatal(err)
	}
	h.reload()
	if diff := cmp.Diff([]string{"inventory-loaded: the inventory names 5 chargers", "daemon-reloaded: reloaded: the inventory; nothing else has changed"}, sayings()); diff != "" {
		t.Errorf("outside of it (-want +got)\n%s", diff)
	}
}

func TestStartWithoutNamesIsSaid(t *testing.T) {
	_, _, sayings := settled(t, "60:15:92:41:00:07,P1-07\n")
	want := []string{
		"inventory-fault: the inventory has a fault: line 1: the first line must name the columns, like: mac,name,serial,model",
		"inventory-empty: DIR/chargers.csv names no charger; each is called by its MAC address",
	}
	if diff := cmp.Diff(want, sayings()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestEveryInventoryEventSaysWhatToDo(t *testing.T) {
	for _, k := range []*event.Kind{event.InventoryKept, event.InventoryEmpty, event.InventoryFault, event.InventoryStrangersSmall} {
		if k.Level != event.Warning || !strings.Contains(k.Advice, "systemctl reload chargegated") || !slices.Contains(event.All(), k) {
			t.Errorf("%s: %+v", k.ID, k)
		}
	}
}

// The faults of a file at the start are lines of their own, in the log's form.
func TestEachFaultAtTheStartSaysItsPlaceOnce(t *testing.T) {
	path := write(t, map[string]string{"chargegate.toml": strings.Replace(good, "chargers = 4", "chargers = \"4\"", 1)})
	var complain bytes.Buffer
	chargegated(t.Context(), []string{"-config", path}, io.Discard, &complain)
	if want := path + `:8:12: network[1].chargers: "4" stands in quotation marks; write it without them: 4`; !strings.Contains(complain.String(), want) {
		t.Errorf("said %q, want %q", complain.String(), want)
	}
}
