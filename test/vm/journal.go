package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"chargegate/test/vm/wire"
)

// journalScenarios are those of what the journal tells (I).
func journalScenarios() []Scenario {
	return []Scenario{{
		Name: "journal", What: "the journal tells a charger's story, and explains it; docs/log.md shows both", From: "heard", Limit: 60 * time.Second, Run: journal,
	}}
}

// The screens of docs/log.md, each below a line <!-- screen: NAME -->.
var screens = map[string]string{
	"story":   `journalctl --no-pager -t chargegated CHARGER=P1-03`,
	"explain": `journalctl --no-pager -x -t chargegated CHARGER=P1-03`,
}

// journal has P1-03, which has been heard badly, try what no charger may, and leave. It
// reads both screens, and compares them with the page's.
func journal(l *Lab) error {
	if _, err := l.Sh(`ip netns exec s3 busybox nslookup api.zaptec.com 10.83.0.1 || true
ip netns exec s3 busybox nslookup www.example.org 10.83.0.1 || true
ip netns exec s3 busybox timeout 3 nc -w 2 192.0.2.200 25 </dev/null || true`); err != nil {
		return err
	}
	if err := l.UntilSh(20*time.Second, "the refusals are in the journal",
		`journalctl --no-pager -q -t chargegated CHARGER=P1-03 | grep -q www.example.org && journalctl --no-pager -q -t chargegated CHARGER=P1-03 | grep -q ' 25'`); err != nil {
		return err
	}
	if err := l.Call("say", wire.Say{Number: 3, Command: "DISCONNECT"}, nil); err != nil {
		return err
	}
	if _, err := saidOf(l, spaceName(3), "charger-left", 30*time.Second); err != nil {
		return err
	}
	name := filepath.Join(l.Source, "docs/log.md")
	page, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	text := string(page)
	var errs []error
	for _, screen := range []string{"story", "explain"} {
		command := screens[screen]
		out, err := l.Sh("LC_ALL=C.UTF-8 TZ=UTC SYSTEMD_COLORS=0 %s", command)
		if err != nil {
			return err
		}
		if screen == "explain" && !strings.Contains(out, "░░") {
			errs = append(errs, errors.New("journalctl -x explains nothing"))
		}
		shown, err := block(text, screen)
		if err != nil {
			return err
		}
		fresh := "$ sudo " + strings.ReplaceAll(command, " --no-pager", "") + "\n" + out + "\n"
		if l.Update {
			text = strings.Replace(text, opening(screen)+shown, opening(screen)+fresh, 1)
			continue
		}
		gone, added := compare(shown, fresh)
		if len(gone) > 0 {
			errs = append(errs, fmt.Errorf("docs/log.md shows lines that the journal does not have any more (-update writes them anew):\n%s", strings.Join(gone, "\n")))
		}
		l.Note("%s: %d lines, %d of them beyond those that docs/log.md shows", screen, strings.Count(fresh, "\n"), len(added))
	}
	if l.Update && len(errs) == 0 {
		return os.WriteFile(name, []byte(text), 0o644)
	}
	return errors.Join(errs...)
}

// opening is what stands before a screen.
func opening(screen string) string { return "<!-- screen: " + screen + " -->\n```\n" }

// block is the code block below a screen's mark.
func block(page, screen string) (string, error) {
	_, rest, found := strings.Cut(page, opening(screen))
	text, _, ended := strings.Cut(rest, "```\n")
	if !found || !ended {
		return "", fmt.Errorf("docs/log.md has no block below <!-- screen: %s -->", screen)
	}
	return text, nil
}

// compare gives the lines of each text whose shape the other one has not.
func compare(shown, fresh string) (gone, added []string) {
	return without(shown, fresh), without(fresh, shown)
}

func without(text, other string) (lines []string) {
	known := map[string]bool{}
	for line := range strings.Lines(other) {
		known[shape(line)] = true
	}
	for line := range strings.Lines(text) {
		if !known[shape(line)] {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

var (
	prefix  = regexp.MustCompile(`^[A-Z][a-z]{2} [ 0-9]\d [0-9:]{8} `)
	figures = regexp.MustCompile(`[0-9]+([.:][0-9]+)*( ?(ms|us|µs|s|min|h|kB|MB|B|dBm)\b)?`)
)

// shape is a line without what differs from run to run: times, process numbers,
// addresses and figures with their units.
func shape(line string) string {
	line = prefix.ReplaceAllString(strings.TrimSpace(line), "")
	return figures.ReplaceAllString(line, "0")
}
