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
func (s *screen) forget() { s.lines = 0 }

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

// stages is what of a status page is worth printing again: the first words of
// each line, which are marks, names and stages, without what changes every
// second.
func stages(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		for _, w := range words[:min(2, len(words))] {
			b.WriteString(strings.Trim(w, "0123456789"))
			b.WriteByte(' ')
		}
		b.WriteByte('\n')
	}
	return b.String()
}
