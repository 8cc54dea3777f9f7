package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"chargegate/pkg/config"
)

// FuzzParse: whatever stands in the file, Parse does not panic, every fault has
// a place in the file and stands on one line, and what it accepts is consistent.
func FuzzParse(f *testing.F) {
	f.Add(good)
	files, _ := filepath.Glob("testdata/*.toml")
	for _, path := range append(files, "../../configs/chargegate.toml") {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := config.Parse([]byte(text), "x.toml", home())
		if err == nil {
			if len(c.Networks) == 0 || len(c.Pools) != len(c.Networks) || len(c.Egress.Listen) != len(c.Networks) || c.Site == "" || c.Uplink.Interface == "" {
				t.Fatalf("accepted without networks, pools or names: %+v", c)
			}
			return
		}
		var faults config.Faults
		if !errors.As(err, &faults) || len(faults) == 0 {
			t.Fatalf("%T: %v", err, err)
		}
		for _, fault := range faults {
			if fault.Line < 1 || fault.Column < 1 || fault.Line > strings.Count(text, "\n")+1 || strings.ContainsAny(fault.Error(), "\n\r") {
				t.Fatalf("%d:%d %q", fault.Line, fault.Column, fault.Error())
			}
		}
	})
}

// FuzzPassphrase: whatever somebody writes as the passphrase, no fault repeats
// it.
func FuzzPassphrase(f *testing.F) {
	f.Add("hunter2hunter2")
	f.Add("file:")
	f.Add("credential:a/b-hunter2")
	f.Fuzz(func(t *testing.T, secret string) {
		if len(secret) < 8 || strings.ContainsAny(secret, "'\n\r") || strings.Contains(good, secret) {
			t.Skip()
		}
		_, err := config.Parse([]byte(strings.Replace(good, `"file:p1.psk"`, "'"+secret+"'", 1)), "x.toml", home())
		if err != nil && !strings.Contains(config.Faults{{File: "x.toml", Text: allowed}}.Error(), secret) && strings.Contains(err.Error(), secret) {
			t.Fatalf("%q was repeated: %v", secret, err)
		}
	})
}

// allowed is what faults about the passphrase say without having seen it.
const allowed = `:10:14: network[1].radio.passphrase: what stands here is not allowed; write where it is kept, "file:PATH" or "credential:NAME"; the passphrase itself never stands in this file`
