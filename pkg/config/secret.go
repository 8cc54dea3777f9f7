package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// Limits of a WPA2 passphrase in bytes (IEEE 802.11-2020, J.4.1).
const (
	minPassphrase = 8
	maxPassphrase = 63
)

// A Secret knows where a passphrase is kept, and reads it only when Reveal is
// called. The configuration names the place (file:PATH or credential:NAME) and
// never the passphrase itself, and the daemon, which has no use for it, neither
// reads it nor needs the right to. However a Secret is printed, it prints as the
// place.
type Secret struct {
	// place is file:PATH or credential:NAME as it was written.
	place string
	// path is the file that holds it; empty for a credential outside a unit
	// that loads it.
	path string
	// guarded says that systemd decides who may read it: a credential.
	guarded bool
}

// errNoCredentials says that a credential was asked for outside a unit.
var errNoCredentials = errors.New("CREDENTIALS_DIRECTORY is not set: a credential can be read only inside a systemd unit with LoadCredential=")

// newSecret reads the place. It never repeats what it was given in an error: it
// might be the passphrase.
func newSecret(place, dir, credentials string) (Secret, bool) {
	kind, name, _ := strings.Cut(place, ":")
	switch {
	case name == "" || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }):
		return Secret{}, false
	case kind == "file":
		return Secret{place: place, path: resolve(dir, name)}, true
	case kind == "credential" && filepath.Base(name) == name && name != "." && name != "..":
		s := Secret{place: place, guarded: true}
		if credentials != "" {
			s.path = credential(credentials, name)
		}
		return s, true
	}
	return Secret{}, false
}

// ours is what names of credentials begin with in the system's store, which holds
// other people's, too; the unit takes only these from there.
const ours = "chargegate."

// credential is the file of a credential that may bear our prefix, or not.
func credential(dir, name string) string {
	path := filepath.Join(dir, name)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return filepath.Join(dir, ours+name)
	}
	return path
}

// Reveal reads the passphrase: the file's text without the line end behind it,
// 8 to 63 printable ASCII characters. It fails where the file cannot be read or
// can be read by everybody. Only render calls it.
func (s Secret) Reveal() (string, error) {
	if s.path == "" {
		return "", fmt.Errorf("reading %s: %w", s, errNoCredentials)
	}
	info, err := os.Stat(s.path)
	if err != nil {
		return "", fmt.Errorf("reading the passphrase: %w%s", err, s.howToMake(err))
	}
	if !info.Mode().IsRegular() || info.Size() > 4096 {
		return "", fmt.Errorf("%s is not a file with a passphrase in it", s.path)
	}
	if !s.guarded && info.Mode().Perm()&0o004 != 0 {
		return "", fmt.Errorf("%s can be read by everybody on this machine; run: chmod 0600 %s", s.path, s.path)
	}
	text, err := os.ReadFile(s.path)
	if err != nil {
		return "", fmt.Errorf("reading the passphrase: %w", err)
	}
	passphrase := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if why := unfit(passphrase); why != "" {
		return "", fmt.Errorf("%s %s", s.path, why)
	}
	return passphrase, nil
}

// unfit says why a text is no WPA2 passphrase, or nothing. It repeats none of
// it.
func unfit(passphrase string) string {
	switch n := utf8.RuneCountInString(passphrase); {
	case strings.ContainsAny(passphrase, "\n\r"):
		return "holds more than one line; the passphrase stands on one"
	case !printableASCII(passphrase):
		return "holds characters that chargers cannot send; allowed are printable ASCII characters: letters a to z, digits, the usual signs"
	case n < minPassphrase || n > maxPassphrase:
		return fmt.Sprintf("holds %d characters; %d to %d are needed", n, minPassphrase, maxPassphrase)
	}
	return ""
}

// howToMake is the command that writes a passphrase that is not there, so that
// it stands in no shell's history.
func (s Secret) howToMake(err error) string {
	plain := func(r rune) bool { return isWord(r) || strings.ContainsRune("/.-", r) }
	if !errors.Is(err, fs.ErrNotExist) || !only(s.path, plain) {
		return ""
	}
	if s.guarded {
		name := filepath.Base(s.path)
		return fmt.Sprintf("; make it: systemd-ask-password -n | sudo systemd-creds encrypt --name=%s - /etc/credstore.encrypted/%s; on Debian 12 the unit needs a drop-in, too: /usr/share/doc/chargegate/credential.conf", name, name)
	}
	return fmt.Sprintf(`; make it: sudo sh -c 'umask 077; read -r p; printf %%s "$p" > %s'`, s.path)
}

// check says what is wrong with the passphrase, as far as this process may
// look: where it may not, that is as it should be.
func (s Secret) check() error {
	_, err := s.Reveal()
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, errNoCredentials) {
		return nil
	}
	return err
}

// String returns where the secret is kept.
func (s Secret) String() string { return s.place }

// GoString returns where the secret is kept.
func (s Secret) GoString() string { return fmt.Sprintf("config.Secret(%q)", s.place) }

// Format prints where the secret is kept, whatever the verb.
func (s Secret) Format(f fmt.State, verb rune) {
	if f.Flag('#') && verb == 'v' {
		fmt.Fprint(f, s.GoString())
		return
	}
	fmt.Fprint(f, s.place)
}

// MarshalText writes where the secret is kept.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.place), nil }

// LogValue is where the secret is kept.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.place) }

// resolve is path seen from the directory of the configuration file.
func resolve(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

func printableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
