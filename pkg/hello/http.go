package hello

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// maxMethod is the longest HTTP method that is waited for.
const maxMethod = 16

// readHTTP reads an HTTP/1 request head. What does not begin like one is Other,
// and said to be so with the first byte that does not fit.
func readHTTP(rec *recorder) (Hello, error) {
	rec.again = len(rec.bytes) // what is there is looked at where it is
	buf := make([]byte, 2048)
	line, searched := false, 0 // the request line is whole; how far no end of the head was found
	for {
		if !line {
			if !mayBeHTTP(rec.bytes) {
				return Hello{}, nil
			}
			line = bytes.IndexByte(rec.bytes, '\n') >= 0
		}
		if end := bytes.Index(rec.bytes[searched:], []byte("\r\n\r\n")); end >= 0 {
			h := Hello{Protocol: HTTP}
			host, err := hostOf(string(rec.bytes[:searched+end]))
			h.ServerName = host
			return h, err
		}
		searched = max(0, len(rec.bytes)-3)
		if _, err := rec.Read(buf); err != nil {
			return Hello{Protocol: HTTP}, endOfHead(err)
		}
	}
}

func endOfHead(err error) error {
	if errors.Is(err, io.EOF) {
		return ErrTruncated
	}
	return err
}

// mayBeHTTP reports whether b is, or can still become, a request line
// (RFC 9112, 3) and what follows it.
func mayBeHTTP(b []byte) bool {
	n := 0
	for n < len(b) && b[n] >= 'A' && b[n] <= 'Z' {
		n++
	}
	if n == len(b) {
		return n <= maxMethod
	}
	if n == 0 || n > maxMethod || b[n] != ' ' {
		return false
	}
	line, _, whole := bytes.Cut(b, []byte("\n"))
	for _, c := range bytes.TrimSuffix(line, []byte("\r")) {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	if !whole {
		return true
	}
	return bytes.HasSuffix(line, []byte(" HTTP/1.1\r")) || bytes.HasSuffix(line, []byte(" HTTP/1.0\r"))
}

// hostOf returns the one host that a request head (without its last empty line)
// names, or why there is none that could be relied upon. It is strict where a
// server behind might read something else: no folded lines, no space before a
// colon, no second Host, and no other one in the request line (RFC 9112, 3.2, 5.1
// and 5.2).
func hostOf(head string) (string, error) {
	lines := strings.Split(head, "\r\n")
	target, err := targetHost(lines[0])
	if err != nil {
		return "", err
	}
	host, seen := "", 0
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(name) || strings.ContainsAny(value, "\r\n\x00") {
			return "", fmt.Errorf("%w: a line of the HTTP head is not a field", ErrMalformed)
		}
		if strings.EqualFold(name, "host") {
			host, seen = strings.Trim(value, " \t"), seen+1
		}
	}
	if seen > 1 {
		return "", fmt.Errorf("%w: the HTTP head has %d Host fields", ErrMalformed, seen)
	}
	name, err := hostName(host)
	if err != nil || target == "" {
		return name, err
	}
	// An absolute URL counts more than the Host (RFC 9112, 3.2.2), but a client has
	// to send the same one (3.2).
	if other, err := hostName(target); err != nil || seen == 1 && other != name {
		return "", fmt.Errorf("%w: the HTTP request is for %q, its Host is %q", ErrMalformed, target, host)
	}
	name, _ = hostName(target)
	return name, nil
}

// targetHost returns the host, perhaps with a port, that a request line names
// itself: an absolute URL does (RFC 9112, 3.2.2), a path does not.
func targetHost(line string) (string, error) {
	method, rest, _ := strings.Cut(line, " ")
	target := rest[:max(strings.LastIndexByte(rest, ' '), 0)]
	switch {
	case method == "CONNECT":
		return "", ErrProxy
	case strings.ContainsRune(target, ' '):
	case strings.HasPrefix(target, "/"), target == "*":
		return "", nil
	default:
		if scheme, after, ok := strings.Cut(target, "://"); ok && isToken(scheme) {
			if end := strings.IndexAny(after, "/?#"); end >= 0 {
				after = after[:end]
			}
			if after != "" {
				return after, nil
			}
		}
	}
	return "", fmt.Errorf("%w: the HTTP request line names nothing that can be asked for", ErrMalformed)
}

// hostName takes the port off a Host and puts the name into the form that is
// compared. An address gives no name.
func hostName(host string) (string, error) {
	if strings.HasPrefix(host, "[") {
		return "", nil
	}
	if name, port, err := net.SplitHostPort(host); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil && port != "" {
			return "", fmt.Errorf("%w: the port of Host %q is not a number", ErrMalformed, host)
		}
		host = name
	}
	for _, c := range []byte(host) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return "", fmt.Errorf("%w: Host %q is not a name", ErrMalformed, host)
		}
	}
	return serverName(strings.TrimSuffix(host, ".")), nil
}

// isToken reports whether s may be the name of a field (RFC 9110, 5.6.2).
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
