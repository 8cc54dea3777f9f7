package garage

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"chargegate/pkg/sim"
)

// apartKey names the environment variable that tells a process for which test
// alone it was started.
const apartKey = "CHARGEGATE_TEST_APART"

// apart runs a story in a garage of its own. Only one garage can be open at a
// time, so the story has a process of its own, in namespaces of its own: this
// same program, told to run this one test.
func apart(t *testing.T, o sim.Options, story func(*testing.T)) {
	t.Helper()
	if os.Getenv(apartKey) != t.Name() {
		elsewhere(t)
		return
	}
	var err error
	if o.Bin, err = binaries(); err != nil {
		t.Fatal(err)
	}
	if garage, err = sim.Start(within(t, 3*time.Minute), o); err != nil {
		t.Fatal(err)
	}
	defer garage.Close()
	story(t)
	if t.Failed() {
		t.Log("the daemon said last:\n" + garage.Gateway.LastWords(15))
	}
	unharmed(t)
	if err := unscathed(); err != nil {
		t.Error(err)
	}
}

// lent is where the other process finds the programs under test: they may lie
// below /run, which it does not see. Nothing of the machine's is hidden there but
// in our own namespaces.
const lent = "/mnt"

// elsewhere runs this test in another process.
func elsewhere(t *testing.T) {
	t.Helper()
	bin, err := filepath.Abs(garage.Options.Bin)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(bin, lent, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("lending the programs: %v", err)
	}
	defer unix.Unmount(lent, unix.MNT_DETACH)
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v"}
	if end, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+time.Until(end).String())
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), apartKey+"="+t.Name(), "CHARGEGATE_BIN="+lent)
	cmd.WaitDelay = time.Second
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in a garage of its own: %v\n%s", err, said)
		return
	}
	t.Logf("in a garage of its own:\n%s", said)
}

// forget makes the gateway lose its memory: the daemon is stopped, and everything
// that it remembers across power cuts is gone. What is done meanwhile, before it
// is started again, may be nothing.
func forget(t *testing.T, meanwhile func()) {
	t.Helper()
	garage.Gateway.Daemon.Stop()
	if err := os.RemoveAll(filepath.Join(filepath.Dir(garage.Gateway.Config), "state")); err != nil {
		t.Fatal(err)
	}
	if meanwhile != nil {
		meanwhile()
	}
	if _, err := garage.Gateway.StartDaemon(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
}

// never wants that no event of these kinds about a charger, or about anybody when
// that is empty, was said after the first n.
func never(t *testing.T, n int, charger string, ids ...string) {
	t.Helper()
	for _, e := range garage.Gateway.Events()[n:] {
		for _, id := range ids {
			if e.ID == id && (charger == "" || e.Charger == charger) {
				t.Errorf("the daemon said %s: %s; want that it never does", e.ID, e.Message)
			}
		}
	}
}
