package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// A terminal is where the tool prints.
type terminal struct {
	io.Writer
	width  func() int // in columns; 0: no end, it is a file or a pipe
	height func() int // in lines; 0: no end
	live   bool       // somebody looks at it now
	colour bool
	signs  bool // more than ASCII can be shown
}

// detect finds out what f is.
func detect(f *os.File, env func(string) string) *terminal {
	size := func() (*unix.Winsize, error) { return unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ) }
	t := &terminal{Writer: f, width: func() int { return 0 }, height: func() int { return 0 }, signs: true}
	if _, err := size(); err != nil {
		return t
	}
	t.live = true
	t.width = func() int {
		if ws, err := size(); err == nil {
			return int(ws.Col)
		}
		return 0
	}
	t.height = func() int {
		if ws, err := size(); err == nil {
			return int(ws.Row)
		}
		return 0
	}
	t.colour = env("NO_COLOR") == "" && env("TERM") != "dumb"
	t.signs = utf8Locale(env) && env("TERM") != "linux" // the console's font has few signs
	return t
}

// utf8Locale reports whether the first locale that is set speaks UTF-8; on a
// serial console it often does not.
func utf8Locale(env func(string) string) bool {
	for _, key := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := env(key); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// A paint is a colour of the terminal (ECMA-48, 8.3.117).
type paint int

const (
	plain  paint = 0
	bold   paint = 1
	faint  paint = 2
	red    paint = 31
	green  paint = 32
	yellow paint = 33
)

// in returns the text in a colour, where there are any.
func (t *terminal) in(p paint, text string) string {
	if !t.colour || p == plain || text == "" {
		return text
	}
	return "\x1b[" + strconv.Itoa(int(p)) + "m" + text + "\x1b[0m"
}

// sign returns the first text, or the second where only ASCII can be shown.
func (t *terminal) sign(text, ascii string) string {
	if t.signs {
		return text
	}
	return ascii
}

// safe makes any text harmless for a terminal: what is not printable is
// written as an escape sequence of Go, not of the terminal.
func safe(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteString(s[i : i+size])
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
		i += size
	}
	return b.String()
}

// lines is safe, but keeps the ends of lines.
func lines(s string) string {
	all := strings.Split(s, "\n")
	for i := range all {
		all[i] = safe(all[i])
	}
	return strings.Join(all, "\n")
}

// wrap breaks a text between words so that no line is longer than the
// terminal, and begins every line but the first with indent spaces. The first
// is taken to stand there already.
func (t *terminal) wrap(text string, indent int) string { return t.wrapAfter(text, indent, indent) }

// wrapAfter is wrap for a first line that stands at another column.
func (t *terminal) wrapAfter(text string, first, indent int) string {
	width := t.width()
	if width == 0 {
		return text
	}
	width = max(width, indent+minRoom)
	var b strings.Builder
	at := first
	begun := false // there is a word on this line
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		if begun && at+1+n > width || !begun && at > indent && at+n > width {
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at, begun = indent, false
		}
		if begun {
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
		begun = true
	}
	return b.String()
}

// minRoom is how much room a wrapped text takes even where there is less.
const minRoom = 20
