package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A screen shows a text that changes. On a terminal the new one takes the place
// of the old; elsewhere it is printed again when it has changed.
type screen struct {
	out   *os.File
	rows  int // of the terminal; 0: none
	lines int // shown last
	last  string
}

func newScreen(out *os.File) screen {
	s := screen{out: out}
	if size, err := unix.IoctlGetWinsize(int(out.Fd()), unix.TIOCGWINSZ); err == nil {
		s.rows = int(size.Row)
	}
	return s
}

// forget begins below whatever was printed meanwhile.
func (s *screen) forget() { s.lines, s.last = 0, "" }

// show shows the text.
func (s *screen) show(text string) {
	text = strings.TrimRight(text, "\n") + "\n"
	if stages(text) == stages(s.last) && s.rows == 0 {
		return
	}
	if s.lines > 0 && s.lines < s.rows {
		fmt.Fprintf(s.out, "\x1b[%dA\x1b[J", s.lines)
	} else {
		fmt.Fprintln(s.out)
	}
	fmt.Fprint(s.out, text)
	s.lines, s.last = strings.Count(text, "\n"), text
}

// stages is the text without what changes every second: numbers.
func stages(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r == ' ' || r == '.' {
			return -1
		}
		return r
	}, text)
}
