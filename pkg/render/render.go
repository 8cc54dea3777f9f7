// Package render turns one configuration into the files of the programs that
// prepare the way for chargegated: nftables, hostapd and systemd-networkd, the
// kernel's settings for the chargers' interfaces, and the line that keeps
// NetworkManager away from them. The files are text that a technician can read, with
// the reason beside each line.
//
// It decides nothing that the configuration does not say, and it leaves to
// others who loads the files (the units in systemd/) and who answers the packets
// that the firewall hands over (the rooms). It is the only reader of the
// passphrases, and needs the right to read them.
package render

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"text/template"

	"chargegate/pkg/config"
)

// Dir is where the units in systemd/ look for the files.
const Dir = "/run/chargegate-rendered"

// A File is one rendered file.
type File struct {
	// Path is relative, with slashes: nftables.conf, hostapd-P1.conf,
	// hostapd-P1.env, networkd/10-chargegate-P1.network,
	// networkmanager/10-chargegate.conf, sysctl.conf.
	Path string
	// Mode is 0600 where the file holds the key of a radio.
	Mode    fs.FileMode
	Content []byte
}

//go:embed templates/*.tmpl
var templates embed.FS

// Files renders every file for a configuration. It fails when a passphrase
// cannot be read, with one error for each.
func Files(cfg *config.Config) ([]File, error) {
	sheets, err := template.ParseFS(templates, "templates/*.tmpl")
	if err != nil {
		return nil, fmt.Errorf("reading the templates: %w", err)
	}
	p := printer{sheets: sheets}
	p.print("nftables.conf", 0o644, "nftables.tmpl", newRuleset(cfg))
	p.print("networkmanager/10-chargegate.conf", 0o644, "networkmanager.tmpl", cfg)
	p.print("sysctl.conf", 0o644, "sysctl.tmpl", cfg)
	for _, n := range cfg.Networks {
		p.print("networkd/10-chargegate-"+n.Name+".network", 0o644, "networkd.tmpl", n)
		if n.Radio != nil {
			p.radio(n)
		}
	}
	return p.files, errors.Join(p.faults...)
}

// A printer collects files, and what went wrong.
type printer struct {
	sheets *template.Template
	files  []File
	faults []error
}

func (p *printer) print(path string, mode fs.FileMode, sheet string, data any) {
	var b strings.Builder
	if err := p.sheets.ExecuteTemplate(&b, sheet, data); err != nil {
		p.faults = append(p.faults, fmt.Errorf("rendering %s: %w", path, err))
		return
	}
	p.files = append(p.files, File{Path: path, Mode: mode, Content: []byte(b.String())})
}

// radio renders what the unit chargegate-radio@NAME reads.
func (p *printer) radio(n config.Network) {
	passphrase, err := n.Radio.Passphrase.Reveal()
	if err != nil {
		p.faults = append(p.faults, fmt.Errorf("rendering the radio of network %s: %w", n.Name, err))
		return
	}
	psk, err := key(passphrase, n.Radio.SSID)
	if err != nil {
		p.faults = append(p.faults, fmt.Errorf("rendering the radio of network %s: %w", n.Name, err))
		return
	}
	p.print("hostapd-"+n.Name+".conf", 0o600, "hostapd.tmpl", struct {
		config.Network
		Key string
	}{n, psk})
	p.print("hostapd-"+n.Name+".env", 0o644, "env.tmpl", n)
}
