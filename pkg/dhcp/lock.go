package dhcp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lock keeps a second chargegate from an interface: the kernel would let both
// listen, and both would answer every client. The lock ends with the file.
func lock(dir, name string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "dhcp-"+name+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("another chargegate gives addresses there already (it holds %s)", f.Name())
	}
	return nil, fmt.Errorf("locking %s: %w", f.Name(), err)
}
