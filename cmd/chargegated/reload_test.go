package main

import (
	"bytes"
	"io"
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
	for _, k := range []*event.Kind{event.InventoryKept, event.InventoryEmpty} {
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
