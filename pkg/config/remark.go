package config

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Remarks says what deserves a look in the files that the configuration names,
// and on a machine that has these interfaces, and yet is no fault: an adapter
// may be plugged in later, and a password may begin with a quotation mark. The
// last remarks are what this process was not allowed to look at.
func (c *Config) Remarks(interfaces []string) []string {
	var remarks []string
	named := make([]string, 0, len(c.Networks)+1)
	for _, n := range c.Networks {
		named = append(named, n.Interface)
	}
	for _, name := range append(named, c.Uplink.Interface) {
		if !slices.Contains(interfaces, name) {
			remarks = append(remarks, absent(name, interfaces))
		}
	}
	var unseen []string
	for _, n := range c.Networks {
		if n.Radio == nil {
			continue
		}
		text, err := n.Radio.Passphrase.Reveal()
		switch what := oddity(text); {
		case errors.Is(err, fs.ErrPermission):
			unseen = append(unseen, fmt.Sprintf("%s was not looked at: permission denied; run it with sudo", n.Radio.Passphrase.path))
		case errors.Is(err, errNoCredentials):
			unseen = append(unseen, fmt.Sprintf("%s was not looked at: only the unit can read it", n.Radio.Passphrase))
		case err == nil && what != "":
			remarks = append(remarks, fmt.Sprintf("%s: %s to the password", n.Radio.Passphrase.path, what))
		}
	}
	return append(remarks, unseen...)
}

func absent(name string, interfaces []string) string {
	if len(interfaces) == 0 {
		return name + " is not there now; there are none"
	}
	return fmt.Sprintf("%s is not there now; there are: %s", name, strings.Join(interfaces, ", "))
}

// oddity says what a passphrase has at its ends that was hardly meant. It
// repeats nothing of what lies between.
func oddity(passphrase string) string {
	if passphrase == "" {
		return ""
	}
	first, last := passphrase[0], passphrase[len(passphrase)-1]
	switch {
	case first == last && (first == '"' || first == '\''):
		return "the quotation marks belong"
	case last == ' ':
		return "the last space belongs"
	case first == ' ':
		return "the first space belongs"
	}
	return ""
}
