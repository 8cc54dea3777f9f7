package config

import (
	"fmt"
	"io/fs"
	"os"
	"testing"
)

// Who lacks a permission decides what helps: a person borrows root's, the
// daemon must be given its own.
func TestWhatToDoAboutAPermission(t *testing.T) {
	denied := fmt.Errorf("opening the inventory: %w", &os.PathError{Op: "open", Path: "/etc/chargegate/x", Err: fs.ErrPermission})
	for _, tt := range []struct {
		name string
		err  error
		user int
		want string
	}{
		{"a person", denied, 1000, "permission denied; run it with sudo"},
		{"the daemon", denied, 997, "permission denied; run: chgrp chargegate /etc/chargegate/x; chmod 0640 /etc/chargegate/x"},
		{"another reason", &os.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}, 1000, "file does not exist"},
	} {
		if got := reason(tt.err, "/etc/chargegate/x", tt.user); got != tt.want {
			t.Errorf("%s reads %q, want %q", tt.name, got, tt.want)
		}
	}
}
