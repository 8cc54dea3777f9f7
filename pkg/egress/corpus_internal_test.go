package egress

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"chargegate/pkg/hello"
	"chargegate/pkg/policy"
)

// TestDecideCorpus decides about every message of the corpus, on a port that is for
// TLS only and on one of a plain rule. The address that was asked for is known as
// apiName's. The last columns of the corpus's index say what is wanted.
func TestDecideCorpus(t *testing.T) {
	t.Parallel()
	const corpus = "../hello/testdata"
	list, err := policy.New(append(policy.Zaptec(), policy.Rule{Name: apiName, Ports: []uint16{8080}, Plain: true, Reason: "test"}))
	if err != nil {
		t.Fatal(err)
	}
	namesAt := func(netip.Addr) []string { return []string{apiName} }
	index, err := os.ReadFile(filepath.Join(corpus, "index.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(index)), "\n")[1:] {
		fields := strings.Split(line, "\t")
		b, err := os.ReadFile(filepath.Join(corpus, fields[0]))
		if err != nil {
			t.Fatal(err)
		}
		for i, port := range []uint16{443, 8080} {
			got := resultNames[resultHelloFailed]
			if h, err := hello.Read(bytes.NewReader(b), 0); err == nil {
				d := decide(list, namesAt, netip.AddrPortFrom(asked, port), h)
				got = resultNames[d.result]
				if d.allowed() {
					got += " by " + d.by
				}
			}
			if want := fields[8+i]; got != want {
				t.Errorf("%s on port %d: %s, want %s", fields[0], port, got, want)
			}
		}
	}
}
