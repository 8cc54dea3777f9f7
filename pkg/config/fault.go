package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Fault is one thing that is wrong with the file, at the place where a
// technician would put the cursor.
type Fault struct {
	// File is the path as it was given.
	File string
	// Line and Column count from 1. They are 0 only when the file could not be
	// read at all.
	Line, Column int
	// Key is the key's whole name, like network[2].radio.channel; sections that
	// can be repeated are counted from 1. It is empty where the text cannot be
	// read as TOML.
	Key string
	// Text says what is wrong and what is allowed. It never repeats a secret.
	Text string
}

// Error writes the fault on one line: file:line:column: key: text.
func (f Fault) Error() string { return f.where() + ": " + f.Text }

// where is what stands before the text, without what is not known.
func (f Fault) where() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", f.Line, f.Column)
	}
	if f.Key != "" {
		b.WriteString(": " + f.Key)
	}
	return b.String()
}

// Faults are all that is wrong, in the file's order.
type Faults []Fault

// Error writes one fault per line.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives each fault to errors.Is and errors.As.
func (fs Faults) Unwrap() []error {
	errs := make([]error, len(fs))
	for i, f := range fs {
		errs[i] = f
	}
	return errs
}

// err is the faults in the file's order, or nil when there are none.
func (fs Faults) err() error {
	if len(fs) == 0 {
		return nil
	}
	slices.SortStableFunc(fs, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Key, b.Key))
	})
	return fs
}
