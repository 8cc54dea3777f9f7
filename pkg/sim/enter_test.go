package sim

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// waitKey makes the test binary, once inside its namespaces, start a child that
// outlives it by far, say so, and wait for ever.
const waitKey = "CHARGEGATE_SIM_TEST_WAIT"

// waitForEver is what the test binary does when waitKey is set.
func waitForEver() {
	cmd := exec.Command("sleep", "600")
	cmd.Stdout = os.Stdout
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	os.Stdout.WriteString("inside\n")
	cmd.Wait()
}

// TestNothingIsLeft kills the outermost process, as the end of a test run that
// takes too long does, and sees that everybody inside ends with it.
func TestNothingIsLeft(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), waitKey+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(out)
	if line, err := in.ReadString('\n'); strings.TrimSpace(line) != "inside" {
		t.Fatalf("it said %q, %v, want that it is inside", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Every process inside holds the other end of this pipe; it ends with the
	// last of them.
	gone := make(chan struct{})
	go func() {
		io.Copy(io.Discard, in)
		close(gone)
	}()
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("somebody inside is still alive 10 s after the outermost process was killed")
	}
	cmd.Wait()
}

func TestExitCodeIsHandedOut(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run", "^$", "-test.no-such-flag")
	err := cmd.Run()
	if got := exitCode(err); got != 2 {
		t.Errorf("the outer process ended with %d, want 2 as the flag package does inside", got)
	}
}

func TestDisguise(t *testing.T) {
	file := t.TempDir() + "/passwd"
	if err := writeFile(file, "192.0.2.1 somewhere\n"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", "cat /etc/passwd; grep CapBnd /proc/self/status")
	d := disguise{Binds: map[string]string{"/etc/passwd": file}, Caps: daemonCaps}
	if err := d.wear(cmd); err != nil {
		t.Fatal(err)
	}
	got, err := cmd.CombinedOutput()
	want := "192.0.2.1 somewhere\nCapBnd:\t0000000000002400\n"
	if err != nil || string(got) != want {
		t.Errorf("the program found %q, %v, want %q", got, err, want)
	}
	if text, err := os.ReadFile("/etc/passwd"); err == nil && strings.Contains(string(text), "somewhere") {
		t.Error("the file is seen by others too")
	}
}
