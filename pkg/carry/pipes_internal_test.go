package carry

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asOrdinaryUser runs the test that calls it once more in a process of a user
// without privileges, as the daemon is one, and reports whether this is that
// process. Who has none already stays who they are.
func asOrdinaryUser(t *testing.T) bool {
	t.Helper()
	if os.Getuid() != 0 {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=1m")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: unix.SIGKILL}
	said, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(said), "--- ") {
		t.Fatalf("as an ordinary user: %v\n%s", err, said)
	}
	t.Logf("as an ordinary user:\n%s", said)
	return false
}

// download has the far end send until it is stopped, or the pair ends, and the near
// one read.
func (k *link) download() (stop func()) {
	stopped, written := make(chan struct{}), make(chan struct{})
	go func() {
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{k.near}, make([]byte, 256<<10))
	}()
	go func() {
		defer close(written)
		for chunk := make([]byte, 256<<10); ; {
			select {
			case <-stopped:
				return
			default:
			}
			if _, err := k.far.Write(chunk); err != nil {
				return
			}
		}
	}()
	return func() { close(stopped); <-written }
}

// All that 1000 conversations can have fits into what the kernel gives a user: the
// last pipes are as large as the first ones, a download finds a large one, and
// last words arrive.
func TestPipesForEverybody(t *testing.T) {
	if !asOrdinaryUser(t) {
		return
	}
	const pairs = 1000
	c, l := carry(t), listenAsOnEthernet(t)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 9*pairs {
		t.Skipf("%d pairs and both their ends need %d descriptors, and there may be %d (%v)", pairs, 9*pairs, limit.Cur, err)
	}
	var downloads []*link
	for range 2 * maxGrown { // twice as many as there are large pipes
		k := carried(t, c.Carrier, l)
		k.download()
		downloads = append(downloads, k)
	}
	eventually(t, "every large pipe is in use", func() bool { return c.grown.Load() >= maxGrown })
	var last *link
	for i := len(downloads); i < pairs; i++ {
		last = carried(t, c.Carrier, l)
		for _, pipe := range []Pipe{last.pair.Up, last.pair.Down} {
			if n := pipe.size(); n != smallPipe() {
				t.Fatalf("a pipe of pair %d has %d bytes, want %d", i, n, smallPipe())
			}
		}
	}
	for _, k := range downloads {
		k.near.Close()
		k.far.Close()
		k.ending(t)
	}
	eventually(t, "no large pipe is in use", func() bool { return c.grown.Load() == 0 })

	_ = last.near.SetReadBuffer(16 << 10)
	words := strings.Repeat("w", 3<<20)
	began := time.Now()
	go func() { _, _ = io.WriteString(last.far, "a"+words) }()
	hear(t, last.near, "a"+words)
	t.Logf("the last pair carried 3 MiB in %v", time.Since(began))
	say(t, last.near, "unread")
	eventually(t, "the question is there", func() bool { up, _ := last.pair.Count(); return up == 6 })
	words = words[:300<<10]
	go func() {
		_, _ = io.WriteString(last.far, words)
		last.far.Close() // with a question unread
	}()
	hear(t, last.near, words)
	hearEnd(t, last.near, unix.ECONNRESET)
}

// A pipe is large as long as a download lasts, while there is room for one more.
func TestLargePipesAreForDownloads(t *testing.T) {
	c, l := carry(t), listenHere(t)
	k := carried(t, c.Carrier, l)
	is := func(size int, grown int32) func() bool {
		return func() bool { return k.pair.Down.size() == size && c.grown.Load() == grown }
	}
	c.grown.Store(maxGrown) // by others
	stop := k.download()
	eventually(t, "much was carried", func() bool { _, down := k.pair.Count(); return down > 16*growAfter })
	if !is(smallPipe(), maxGrown)() {
		t.Errorf("the pipe has %d bytes, and %d are large; there was no room for one more", k.pair.Down.size(), c.grown.Load())
	}
	c.grown.Store(0)
	eventually(t, "the pipe is large", is(pipeSize, 1))
	stop()
	eventually(t, "it is small again", is(smallPipe(), 0))
	say(t, k.near, "and works")
	hear(t, k.far, "and works")

	k.download()
	eventually(t, "it is large once more", is(pipeSize, 1))
	c.Reset(k.pair, io.EOF)
	k.ending(t)
	eventually(t, "no pipe is large", func() bool { return c.grown.Load() == 0 })
	for range 3 {
		pipe, err := c.NewPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer pipe.Close()
		if n := pipe.size(); n != smallPipe() {
			t.Errorf("the next pair has a pipe of %d bytes, want %d", n, smallPipe())
		}
	}
}

// A large pipe of another carrier's is made small, or counts, when there is
// something in it.
func TestLargePipesAreTakenOver(t *testing.T) {
	c, l := carry(t), listenHere(t)
	k := newLink(t, l)
	if !k.pair.Up.resize(pipeSize) || !k.pair.Down.resize(pipeSize) {
		t.Fatal("the pipes cannot be made large")
	}
	held := strings.Repeat("h", 2*smallPipe())
	if _, err := unix.Write(k.pair.Down.Write, []byte(held)); err != nil {
		t.Fatal(err)
	}
	if err := k.pair.prepare(); err != nil {
		t.Fatal(err)
	}
	if up, down, n := k.pair.Up.size(), k.pair.Down.size(), k.pair.grown(); up != smallPipe() || down != pipeSize || n != 1 {
		t.Errorf("the empty one has %d bytes, the other one %d, and %d count as large; want %d, %d and 1", up, down, n, smallPipe(), pipeSize)
	}
	if err := c.Add(k.pair); err != nil {
		t.Fatal(err)
	}
	hear(t, k.near, held)
	eventually(t, "both are small", func() bool { return k.pair.Down.size() == smallPipe() && c.grown.Load() == 0 })
}
