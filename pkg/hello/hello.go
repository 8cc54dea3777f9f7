// Package hello reads whom a caller asks for out of the first bytes it sends:
// the server name of a TLS ClientHello, or the Host of a plain HTTP request
// head. It gives back every byte it read, so that the conversation can go on
// as if nobody had looked.
//
// The usual TLS hello, which comes whole, is read by a small strict parser (see
// quick). Everything else is parsed by crypto/tls, which takes hellos in any
// fragmentation and has the last word on what is one. Nothing is answered and
// nothing is decrypted. The package leaves to others how long a caller may take
// (deadlines belong to the connection) and what may be reached.
package hello

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Limits of what Read may be asked to remember, in bytes. A hello with a
// post-quantum key share has about 1.7 KiB; nothing honest has 16.
const (
	DefaultLimit = 16 << 10
	MaxLimit     = 64 << 10
)

// A Protocol is what the first bytes are.
type Protocol int

// Protocols. The zero value is anything that is neither of the others.
const (
	Other Protocol = iota
	TLS            // a TLS handshake record of any version since SSL 3.0
	HTTP           // an HTTP/1 request line
)

// String returns the protocol as a technician would say it.
func (p Protocol) String() string {
	switch p {
	case TLS:
		return "TLS"
	case HTTP:
		return "HTTP"
	}
	return "unknown"
}

// Why no hello could be read. Errors of the connection itself, such as a
// passed deadline or a reset, are returned as they are.
var (
	ErrEmpty     = errors.New("the caller hung up without a word")
	ErrTruncated = errors.New("the caller hung up in the middle of its first message")
	ErrTooLong   = errors.New("the first message is too long")
	ErrMalformed = errors.New("the first message is malformed")
	// ErrProxy is of HTTP only: the caller takes whom it reached for a web proxy
	// (CONNECT; RFC 9110, 9.3.6).
	ErrProxy = errors.New("the caller asks for a web proxy, and there is none here")
)

// A Hello is what the first bytes of a conversation say.
type Hello struct {
	Protocol Protocol
	// ServerName is whom the caller asks for, its ASCII letters in lower case (RFC
	// 4343): the name of the ClientHello (RFC 6066, 3), with ECH the outer one, or
	// the Host of the HTTP request without its port. Empty when there is none, or
	// when there is an address in its place. A name of a ClientHello can hold any
	// byte, also such as no host has, and be as long as the hello.
	ServerName string
	// ALPN is what the caller wants to speak over TLS (RFC 7301), as offered.
	ALPN []string
	// ECH says that the hello carries an encrypted inner one, or pretends to:
	// GREASE looks the same (RFC 9849, 6.2).
	ECH bool
	// Version is the version for a record sent in answer, 0x0301 to 0x0303; 0
	// when the caller does not speak TLS (RFC 8446, 5.1).
	Version uint16
	// Bytes are all that was read from the connection, also with an error. They
	// may reach beyond the hello.
	Bytes []byte
}

// extensionECH marks encrypted_client_hello (RFC 9849, 5).
const extensionECH = 0xfe0d

// Read reads from r until it knows whom the caller asks for, but no more than
// limit bytes (out of 1 to MaxLimit; anything else means DefaultLimit).
//
// A conversation that is neither TLS nor HTTP/1 is no error: it is returned as
// Other as soon as that is certain. With an error, Protocol and Bytes say how
// far it came.
func Read(r io.Reader, limit int) (Hello, error) {
	if limit <= 0 || limit > MaxLimit {
		limit = DefaultLimit
	}
	rec := &recorder{r: r, limit: limit}
	if err := rec.open(); err != nil {
		if errors.Is(err, io.EOF) {
			err = ErrEmpty
		}
		return Hello{}, err
	}
	var h Hello
	var err error
	switch c := rec.bytes[0]; {
	case c == recordHandshake:
		var ok bool
		rec.record()
		if h, ok = quick(rec.bytes); !ok {
			h, err = readTLS(rec)
		}
	case c >= 'A' && c <= 'Z':
		h, err = readHTTP(rec)
	}
	h.Bytes = rec.bytes
	return h, err
}

// recordHandshake is the content type that a ClientHello comes in (RFC 8446, 5.1).
const recordHandshake = 22

// errSeen ends the handshake once the hello was seen.
var errSeen = errors.New("hello seen")

// readTLS lets crypto/tls parse the hello and stops it there.
func readTLS(rec *recorder) (Hello, error) {
	h := Hello{Protocol: TLS}
	err := tls.Server(deaf{rec}, &tls.Config{
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			h.ServerName = serverName(info.ServerName)
			h.ALPN = slices.Clone(info.SupportedProtos)
			h.ECH = slices.Contains(info.Extensions, extensionECH)
			h.Version = answerVersion(info.SupportedVersions)
			return nil, errSeen
		},
	}).Handshake()
	if errors.Is(err, errSeen) {
		return h, nil
	}
	// A 22 may begin anything; a TLS record goes on with major version 3.
	if len(rec.bytes) > 1 && rec.bytes[1] != 3 {
		return Hello{}, nil
	}
	h.Version = recordVersion(rec.bytes)
	switch {
	case rec.err == nil:
		return h, fmt.Errorf("%w: %w", ErrMalformed, err)
	case errors.Is(rec.err, io.EOF):
		return h, ErrTruncated
	}
	return h, rec.err
}

// serverName is the name in the form that is compared; an address in its place
// is no name (RFC 6066, 3: "Literal IPv4 and IPv6 addresses are not permitted").
func serverName(name string) string {
	if n := len(name); n == 0 || name[n-1] >= '0' && name[n-1] <= '9' || strings.IndexByte(name, ':') >= 0 || name[n-1] == ']' {
		if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
			return ""
		}
	}
	return lower(name)
}

// lower is strings.ToLower for ASCII alone: other letters are no part of a host
// name, and one of them (the Kelvin sign) would become a k.
func lower(name string) string {
	if !strings.ContainsFunc(name, func(r rune) bool { return 'A' <= r && r <= 'Z' }) {
		return name
	}
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// answerVersion is the record version for an answer to a hello that offers
// these versions.
func answerVersion(offered []uint16) uint16 {
	best := uint16(tls.VersionTLS10)
	for _, v := range offered {
		if v > best && v <= tls.VersionTLS12 {
			best = v
		}
		if v == tls.VersionTLS13 { // its records say 1.2 (RFC 8446, 5.1)
			return tls.VersionTLS12
		}
	}
	return best
}

// recordVersion is answerVersion for a hello that could not be parsed: what the
// record itself says.
func recordVersion(b []byte) uint16 {
	if len(b) < 3 {
		return tls.VersionTLS10
	}
	v := uint16(b[1])<<8 | uint16(b[2])
	return min(max(v, tls.VersionTLS10), tls.VersionTLS12)
}

// A recorder reads from r, remembers what it read, and ends after limit bytes.
type recorder struct {
	r     io.Reader
	limit int
	bytes []byte
	again int   // where the next Read begins: what was read can be read again
	err   error // what ended it
}

// usual is how much is read at first, in bytes: nearly every hello is shorter.
const usual = 2048

// open waits for the first bytes. They can be read again.
func (c *recorder) open() error {
	b := make([]byte, min(usual, c.limit))
	n, err := io.ReadAtLeast(c.r, b, 1)
	c.bytes = b[:n]
	return err
}

// record waits for the whole first record, if it is a usual one: a hello can come
// in several segments. What ends the waiting is told to whoever reads on.
func (c *recorder) record() {
	for {
		b := c.bytes
		if len(b) > 1 && b[1] != 3 {
			return // no TLS
		}
		if len(b) >= headerSize {
			if n := headerSize + int(b[3])<<8 + int(b[4]); len(b) >= n || n > cap(b) {
				return
			}
		} else if cap(b) < headerSize {
			return
		}
		n, err := io.ReadAtLeast(c.r, b[len(b):cap(b)], 1)
		c.bytes = b[:len(b)+n]
		if err != nil {
			c.err = err
			return
		}
	}
}

func (c *recorder) Read(p []byte) (int, error) {
	if c.again < len(c.bytes) {
		n := copy(p, c.bytes[c.again:])
		c.again += n
		return n, nil
	}
	if c.err != nil {
		return 0, c.err
	}
	room := c.limit - len(c.bytes)
	if room == 0 {
		c.err = ErrTooLong
		return 0, c.err
	}
	n, err := c.r.Read(p[:min(len(p), room)])
	c.bytes = append(c.bytes, p[:n]...)
	c.again = len(c.bytes)
	c.err = err
	return n, err
}

// deaf is a connection that can only be listened to: crypto/tls must not answer.
type deaf struct{ io.Reader }

var errDeaf = errors.New("nothing is answered here")

func (deaf) Write([]byte) (int, error)        { return 0, errDeaf }
func (deaf) Close() error                     { return nil }
func (deaf) LocalAddr() net.Addr              { return nil }
func (deaf) RemoteAddr() net.Addr             { return nil }
func (deaf) SetDeadline(time.Time) error      { return nil }
func (deaf) SetReadDeadline(time.Time) error  { return nil }
func (deaf) SetWriteDeadline(time.Time) error { return nil }
