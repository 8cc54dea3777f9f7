package config

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
)

// restUnseen ends every fault of a file that is not TOML: only the first is
// known.
const restUnseen = "; the rest of the file was not looked at"

// encoding says why the text is not UTF-8, or nothing.
func encoding(text []byte) *Fault {
	for _, mark := range []string{"\xff\xfe", "\xfe\xff"} {
		if bytes.HasPrefix(text, []byte(mark)) {
			return &Fault{Line: 1, Column: 1, Text: "this is UTF-16; save the file as UTF-8"}
		}
	}
	if bytes.IndexByte(text[:min(4, len(text))], 0) >= 0 {
		return &Fault{Line: 1, Column: 1, Text: "this is UTF-16, or no text at all; save the file as UTF-8"}
	}
	if utf8.Valid(text) {
		return nil
	}
	at := 0
	for {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	line := bytes.Count(text[:at], []byte("\n")) + 1
	column := at - bytes.LastIndexByte(text[:at], '\n')
	return &Fault{Line: line, Column: column, Text: "what stands here is not UTF-8; save the file as UTF-8" + restUnseen}
}

// syntax turns go-toml's error into a fault. Where it knows the slip of the
// pen, it says what to write; it repeats values only of keys that never hold a
// secret.
func syntax(text []byte, err error) *Fault {
	f := &Fault{Line: 1, Column: 1}
	var de *toml.DecodeError
	if errors.As(err, &de) {
		f.Line, f.Column = de.Position()
	}
	f.Line, f.Column = max(f.Line, 1), max(f.Column, 1)
	why := strings.TrimPrefix(err.Error(), "toml: ")
	switch better := explain(lineOf(text, f.Line)); {
	case strings.Contains(why, " already "):
		f.Text = twice(text, why) + restUnseen
	case better != "":
		f.Text = better + restUnseen
	default:
		f.Text = why + restUnseen + `. A line is written like: name = "P1"`
	}
	return f
}

// twice says where the first of two is that exclude each other.
func twice(text []byte, why string) string {
	g := newGrower(text)
	for g.p.NextExpression() && g.twice == nil {
		g.expression(g.p.Expression())
	}
	if g.twice == nil {
		return why
	}
	d := g.twice
	name := cut(d.name)
	switch {
	case d.lists:
		return fmt.Sprintf("section %s stands on line %d already; write [[%s]] with double brackets in both places", name, d.first.line, name)
	case d.header:
		return fmt.Sprintf("section [%s] stands on line %d already; put the keys of both below one of them", name, d.first.line)
	}
	return fmt.Sprintf("key %s is already defined on line %d; remove one of the two", name, d.first.line)
}

func lineOf(text []byte, number int) string {
	n := 0
	for line := range bytes.Lines(text) {
		if n++; n == number {
			return string(bytes.TrimSpace(line))
		}
	}
	return ""
}

// Kinds of keys by their names alone, for lines that cannot be read.
var (
	textKeys   = []string{"name", "inventory", "interface", "address", "ssid", "country", "lease", "source", "metrics", "level", "format", "reason", "revive"}
	wholeKeys  = []string{"chargers", "channel", "max_stations", "warn", "minimum", "critical"}
	yesNoKeys  = []string{"plain", "force"}
	curlyMarks = "“”„‟‘’‚‛«»"
)

// explain says what is wrong with a line that is not TOML, or nothing where it
// is none of the usual slips.
func explain(line string) string {
	key, value, isKey := strings.Cut(uncommented(line), "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	first, _ := utf8.DecodeRuneInString(value)
	last, _ := utf8.DecodeLastRuneInString(value)
	start, _ := utf8.DecodeRuneInString(key)
	curly := func(r rune) bool { return strings.ContainsRune(curlyMarks, r) }
	switch {
	case curly(start) || curly(first) || (first == '"' || first == '\'') && curly(last):
		return `write straight quotation marks: "`
	case !isKey || key == "" || !only(key, isWord):
		return ""
	case value == "":
		return fmt.Sprintf("nothing stands behind %s =", cut(key))
	case first == '[' && strings.IndexFunc(value, unicode.IsLetter) == 1:
		return `text in a list stands in quotation marks, like: ["ssh"]`
	case strings.ContainsRune(`"'[{`, first):
		return ""
	}
	return unquoted(key, value, unicode.IsLetter(first))
}

// unquoted explains a value that begins with no quotation mark.
func unquoted(key, value string, word bool) string {
	switch {
	case key == "channel" && strings.EqualFold(value, "auto"):
		return noAuto(value)
	case key == "passphrase":
		return `text stands in quotation marks: passphrase = "file:PATH"`
	case slices.Contains(textKeys, key):
		return fmt.Sprintf("text stands in quotation marks: %s = %s", key, strconv.Quote(shorten(strings.Trim(value, `"'`))))
	case slices.Contains(yesNoKeys, key):
		return fmt.Sprintf("write true or false, in small letters: %s = true", key)
	case slices.Contains(wholeKeys, key):
		return "write a whole number, and nothing else, behind " + key + " ="
	case word:
		return `text stands in quotation marks, like: name = "P1"`
	}
	return ""
}

// uncommented is a line without the comment at its end.
func uncommented(line string) string {
	if i := strings.Index(line, " #"); i >= 0 {
		line = line[:i]
	}
	if strings.HasPrefix(line, "#") {
		return ""
	}
	return line
}
