package crowd

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// The benches of names and time run, and every answer in them is right. How
// quickly says nothing here.
func TestBenchesRun(t *testing.T) {
	for bench, rows := range map[string][]string{
		"names": {"cached", "hit half", "miss", "miss 99", "denied half", "beside 99", "rss after"},
		"time":  {"answers", "idle error 99", "busy error half", "busy half"},
	} {
		t.Run(bench, func(t *testing.T) {
			got := benched(t, bench)
			for _, row := range rows {
				if got[row].Median <= 0 {
					t.Errorf("%s: %v, want a figure", row, got[row].Median)
				}
			}
			for _, row := range []string{"wrong", "failed"} {
				if n, told := got[row]; !told || n.Median != 0 {
					t.Errorf("%s: %v, want 0", row, n.Median)
				}
			}
		})
	}
}

type figure struct{ Median float64 }

// benched runs a bench of chargegate alone, shortly, and returns its rows.
func benched(t *testing.T, word string) map[string]figure {
	t.Helper()
	configs, err := filepath.Abs("../../configs/bench")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(within(t, time.Minute), filepath.Join(bin, "chargesim"),
		"bench", word, "-bin", bin, "-configs", configs, "-peers", "none", "-runs", "1", "-for", "50ms", "-json")
	cmd.Env = append(os.Environ(), "CHARGEGATE_SIM_STAGE=inside") // we are in namespaces of our own
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var report struct {
		Servers []struct{ Rows map[string]figure }
	}
	if err == nil {
		err = json.Unmarshal(out, &report)
	}
	if err != nil || len(report.Servers) != 1 {
		t.Fatalf("the bench says %s, %v", out, err)
	}
	return report.Servers[0].Rows
}
