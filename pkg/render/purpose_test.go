package render_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A listing is what nft tells of a loaded ruleset. Of each object one field is
// there.
type listing struct {
	Objects []struct {
		Chain *struct {
			Table, Name, Comment string
		}
		Set *struct {
			Table, Name, Comment string
			Elem                 []any
		}
		Rule *struct {
			Chain, Comment string
			Expr           []map[string]any
		}
	} `json:"nftables"`
}

func listRules(t *testing.T) listing {
	t.Helper()
	var l listing
	if err := json.Unmarshal([]byte(command(t, "nft -j list ruleset")), &l); err != nil {
		t.Fatal(err)
	}
	return l
}

// A technician reads in the firewall itself what each rule is for, and how often
// it was met. Three rules only say it: every packet of every conversation passes
// them, and what they let pass is told elsewhere.
func TestEveryRuleSaysWhatItIsFor(t *testing.T) {
	if !apart(t) {
		return
	}
	for name, text := range map[string]string{"small": small, "wide": wide} {
		loadRules(t, text)
		l := listRules(t)
		rules, silent := 0, 0
		said := map[string]bool{}
		for _, o := range l.Objects {
			switch {
			case o.Set != nil && o.Set.Comment == "":
				t.Errorf("%s: set %s does not say what it is for", name, o.Set.Name)
			case o.Rule == nil:
				continue
			}
			r := o.Rule
			if r == nil {
				continue
			}
			rules++
			if key := r.Chain + ": " + r.Comment; r.Comment == "" || said[key] {
				t.Errorf("%s: a rule of chain %s does not say what it alone is for: %q, %v", name, r.Chain, r.Comment, r.Expr)
			} else {
				said[key] = true
			}
			counts := slices.ContainsFunc(r.Expr, func(e map[string]any) bool { _, ok := e["counter"]; return ok })
			if told := strings.Contains(r.Comment, "(not counted"); counts == told {
				t.Errorf("%s: chain %s, %q: counts %t, says that it does not %t", name, r.Chain, r.Comment, counts, told)
			}
			if !counts {
				silent++
			}
		}
		if rules < 40 || silent != 3 {
			t.Errorf("%s: %d rules, of which %d do not count, want three", name, rules, silent)
		}
	}
}

// A file with a fault in it, wherever it stands and whoever finds it, changes
// nothing: what was in force stays, and counts on.
func TestAFaultyRulesetLeavesTheOldOneInForce(t *testing.T) {
	if !apart(t) {
		return
	}
	garage(t)
	loadRules(t, small)
	in(t, "charger", func() { ask("tcp4", "", "203.0.113.9:80") })
	before := command(t, "nft -s list ruleset")
	text := string(files(t, strings.Replace(small, "chargers = 4", "chargers = 100", 1))[0].Content)
	for what, faulty := range map[string]string{
		"cut short":                            text[:len(text)/2],
		"a word that nft does not know":        strings.Replace(text, "goto refuse ", "goaway refuse ", 1),
		"a chain that is not there":            strings.Replace(text, "goto refuse_outside", "goto nowhere", 1),
		"a set that is not there":              strings.Replace(text, "update @hasty_outside", "update @nothing", 1),
		"a limit that the kernel refuses":      strings.Replace(text, "size 4096", "size 4294967295", 1) + "\ntable inet chargegate { chain answer { redirect to :1; }; }\n",
		"the last line, a table for no family": text + "table inet6 more { }\n",
		"the last line, a rule in the air":     text + "add rule inet chargegate nowhere accept\n",
	} {
		path := filepath.Join(t.TempDir(), "faulty.conf")
		if err := os.WriteFile(path, []byte(faulty), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), "nft", "-f", path).CombinedOutput(); err == nil {
			t.Errorf("%s: nft took it: %s", what, out)
		}
		if after := command(t, "nft -s list ruleset"); after != before {
			t.Errorf("%s: the rules in force have changed:\n%s", what, after)
		}
	}
	if n := counted(t, "refuse_chargers", "TCP"); n != 1 {
		t.Errorf("the old rules count %d refusals, want the one from before", n)
	}
	for _, w := range ways {
		if w.want == "reset" && w.from == "charger" {
			t.Run(w.what, w.try)
		}
	}
}

// Without the daemon, from the boot on or because it died, nothing that needed it
// works, nothing else is let through, and nobody waits: where the firewall hands a
// packet over, nobody listens, and the kernel says so.
func TestTheWallStandsAlone(t *testing.T) {
	if !apart(t) {
		return
	}
	garage(t)
	loadRules(t, small) // uplink.allow is empty, and nobody listens anywhere
	for _, on := range []string{"0", "1"} {
		forwarding(t, on)
		for _, w := range ways {
			switch {
			case w.network == "ip4:icmp" && w.remote == "10.83.0.1": // the kernel's own
			case strings.HasPrefix(w.want, "here"):
				w.want = "reset" // by the kernel, at the closed port
			}
			t.Run(w.what+", forwarding "+on, w.try)
		}
	}
}

// What docs/security.md tells a technician to type works, and a reload takes it
// away again.
func TestARuleByHandLastsUntilTheNextLoad(t *testing.T) {
	if !apart(t) {
		return
	}
	page, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	loadRules(t, small)
	_, line, ok := strings.Cut(string(page), "    sudo nft insert rule ")
	if !ok {
		t.Fatal("the page no longer says how")
	}
	line, _, _ = strings.Cut(line, "\n")
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", "nft insert rule "+line).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if list := command(t, "nft list chain inet chargegate refuse_chargers"); !strings.Contains(list, `log prefix "chargegate refused: "`) {
		t.Errorf("the rule is not there:\n%s", list)
	}
	loadRules(t, small)
	if list := command(t, "nft list table inet chargegate"); strings.Contains(list, "by hand") {
		t.Error("the rule has survived a reload")
	}
}
