package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is no fault and yet deserves a look.
func TestRemarksOnNamesAndServers(t *testing.T) {
	t.Parallel()
	house, err := os.ReadFile("testdata/dns-itself.toml")
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(house), "[dns]")
	allow := func(name string) string {
		return "[[egress.allow]]\nname = \"" + name + "\"\nports = [443]\nreason = \"OCPP\"\n"
	}
	own := load(t, written(t, before)).Networks[0].Gateway.Addr().String()
	for _, tt := range []struct{ name, more, want string }{
		{"nothing", "", ""},
		{"this box's own address as a DNS server", "[dns]\nupstreams = [\"" + own + "\"]\n",
			"dns.upstreams: " + own + " is this box itself, on P1, and is not asked; write the router's address"},
		{"another one", "[dns]\nupstreams = [\"192.0.2.53\"]\n", ""},
		{"a pattern over somebody's cloud", allow("*.amazonaws.com"), "egress.allow: *.amazonaws.com allows whatever anybody rents below amazonaws.com; write the names in full if you know them"},
		{"a pattern deep in it", allow("*.s3.amazonaws.com"), "egress.allow: *.s3.amazonaws.com allows whatever anybody rents below amazonaws.com; write the names in full if you know them"},
		{"a name in it", allow("a.s3.amazonaws.com"), ""},
		{"a pattern of one's own", allow("*.example.com"), ""},
	} {
		c := load(t, written(t, before+tt.more))
		interfaces := []string{c.Uplink.Interface}
		for i := range c.Networks {
			interfaces = append(interfaces, c.Networks[i].Interface)
			c.Networks[i].Radio = nil
		}
		if got := strings.Join(c.Remarks(interfaces), "\n"); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// written is a configuration in a file of its own, with a password beside it.
func written(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "chargegate.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
