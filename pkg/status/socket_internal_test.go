package status

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestListenUnix(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		there func(t *testing.T, path string)
		fault string // part of the error; empty: none
	}{
		{"nothing there", func(*testing.T, string) {}, ""},
		{"a leftover of a killed daemon", func(t *testing.T, path string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			l.Close()
		}, ""},
		{"another daemon answers", func(t *testing.T, path string) {
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}, "is another chargegated running?"},
		{"a file that is not ours", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "not a socket"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "s")
			tt.there(t, path)
			l, err := listenUnix(path)
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) || !strings.Contains(err.Error(), path) {
					t.Errorf("the error is %v, want one about %q with the path", err, tt.fault)
				}
				if _, err := os.Lstat(path); err != nil {
					t.Errorf("what was there is gone: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != socketMode {
				t.Errorf("the mode is %o, want %o", got, socketMode)
			}
			l.Close()
			if _, err := os.Lstat(path); err == nil {
				t.Error("the socket file is still there after the end")
			}
		})
	}
}
