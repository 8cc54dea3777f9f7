package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"chargegate/pkg/policy"
)

// maxFile bounds the file in bytes; a garage with 1000 chargers needs some ten
// thousand.
const maxFile = 1 << 20

// An Env is what a configuration depends on besides its text. The zero value
// knows nothing of the machine.
type Env struct {
	// Uplink returns the addresses that an interface has at present, with their
	// subnets; nil: none.
	Uplink func(iface string) []netip.Prefix
	// Credentials is the directory where systemd puts credentials; empty: this
	// is no unit that loads any.
	Credentials string
}

// System is the machine that the process runs on. An interface that is absent
// has no addresses.
func System() Env {
	return Env{Uplink: addresses, Credentials: os.Getenv("CREDENTIALS_DIRECTORY")}
}

func addresses(iface string) []netip.Prefix {
	ifi, err := net.InterfaceByName(iface)
	if err != nil {
		return nil
	}
	addrs, err := ifi.Addrs()
	if err != nil {
		return nil
	}
	var out []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// Load reads the file at path. The error is of type Faults and holds every
// fault that was found.
//
// Secrets are not read, only where they are kept: see Secret and CheckFiles.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	return Parse(text, path, System())
}

func unreadable(path string, err error) error {
	return Faults{{File: path, Text: "the configuration cannot be read: " + reason(err, path, os.Geteuid())}}
}

// firstUser is the first user that is a person (Debian Policy 9.2.2); below it
// are the services.
const firstUser = 1000

// reason says why a file cannot be read, and what the user may do about it.
func reason(err error, path string, user int) string {
	hint := permit(err, path, user)
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return err.Error() + hint
}

// permit says what to do where a permission is missing: a person takes it, the
// daemon must be given it.
func permit(err error, path string, user int) string {
	switch {
	case !errors.Is(err, fs.ErrPermission):
		return ""
	case user >= firstUser:
		return "; run it with sudo"
	}
	return fmt.Sprintf("; run: chgrp chargegate %s; chmod 0640 %s", path, path)
}

// Parse reads a configuration from text. File is what faults call it; paths in
// it are seen from its directory. The error is of type Faults, each with line
// and column.
func Parse(text []byte, file string, env Env) (*Config, error) {
	r := newReader(file, env)
	if len(text) > maxFile {
		r.fault(place{1, 1}, "", "the file has more than %d bytes; that cannot be a configuration", maxFile)
		return nil, r.faults.err()
	}
	root, fault := grow(text)
	if fault != nil {
		fault.File = file
		return nil, Faults{*fault}
	}
	c := r.config(root)
	if err := r.faults.err(); err != nil {
		return nil, err
	}
	c.furnish()
	return c, nil
}

func newReader(file string, env Env) *reader {
	if env.Uplink == nil {
		env.Uplink = func(string) []netip.Prefix { return nil }
	}
	return &reader{file: file, env: env, dir: filepath.Dir(file), known: map[string]bool{}}
}

// config reads the whole tree. The result is good only if no fault was found.
func (r *reader) config(root *table) *Config {
	top := r.top(root)
	c := &Config{File: r.file}
	c.Rules = policy.Zaptec()
	r.site(top.section("site"), c)
	networks := r.networks(top, c)
	r.uplink(top.section("uplink"), c)
	r.dhcp(top.section("dhcp"), c)
	r.dns(top.section("dns"), c)
	r.ntp(top.section("ntp"), c)
	r.egress(top.section("egress"), c)
	r.signal(top.section("signal"), c)
	r.status(top.section("status"), c)
	r.log(top.section("log"), c)
	top.close()

	r.apart(networks, c)
	r.subnets(networks, c)
	r.housed(c)
	return c
}

func (r *reader) site(s *section, c *Config) {
	const name = `write what the place is called, like "Kungsgatan 12", at most 60 characters`
	if v, ok := s.text("name", name, true); ok && !isTitle(v) {
		s.bad("name", "%s is not allowed; %s", quote(v), name)
	} else {
		c.Site = v
	}
	if path, ok := s.text("inventory", `write the path of the chargers' list, like "chargers.csv"`, false); ok && path != "" {
		c.Inventory, c.inventory = resolve(r.dir, path), s.at("inventory")
	}
	s.close()
}
