package hello

import (
	"crypto/tls"
	"slices"
)

// What quick looks into. Extensions are those that crypto/tls knows, so that
// both mean the same by a well-formed hello (RFC 8446, 4.2).
const (
	headerSize  = 5       // of a record: type, version, length
	maxRecord   = 1 << 14 // RFC 8446, 5.1
	clientHello = 1       // the first byte of the message

	extServerName        = 0
	extMaxFragmentLength = 1
	extStatusRequest     = 5
	extGroups            = 10
	extPointFormats      = 11
	extSignatures        = 13
	extHeartbeat         = 15
	extALPN              = 16
	extTimestamps        = 18
	extPadding           = 21
	extEncryptThenMAC    = 22
	extMasterSecret      = 23
	extCompressCerts     = 27
	extRecordSize        = 28
	extTicket            = 35
	extVersions          = 43
	extPSKModes          = 45
	extPostHandshakeAuth = 49
	extSignaturesCert    = 50
	extKeyShare          = 51
	extRenegotiation     = 0xff01
)

// maxExtensions bounds what is compared to find one that stands twice.
const maxExtensions = 32

// quick reads the usual hello: one whole ClientHello that is one whole record,
// with extensions that everybody sends. It turns down what it does not know,
// what is malformed, and what is rare (fragments, ECH, resumption): crypto/tls
// decides about those. What it accepts, crypto/tls reads the same; FuzzHello
// compares the two.
func quick(b []byte) (Hello, bool) {
	record := cursor(b)
	header, ok := record.take(headerSize)
	if !ok || header[0] != recordHandshake || header[1] != 3 {
		return Hello{}, false
	}
	n := int(header[3])<<8 | int(header[4])
	message, ok := record.take(n)
	if !ok || n > maxRecord {
		return Hello{}, false
	}
	head, ok := message.take(4)
	if !ok || head[0] != clientHello || int(head[1])<<16|int(head[2])<<8|int(head[3]) != len(message) {
		return Hello{}, false
	}
	version, ok1 := message.number()
	_, ok2 := message.take(32) // random
	_, ok3 := message.list(1)  // session
	suites, ok4 := message.list(2)
	_, ok5 := message.list(1) // compression
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || len(suites)%2 != 0 {
		return Hello{}, false
	}
	h := Hello{Protocol: TLS, Version: answerVersion([]uint16{min(version, tls.VersionTLS13)})}
	if len(message) == 0 {
		return h, true
	}
	extensions, ok := message.list(2)
	return h, ok && len(message) == 0 && h.extensions(extensions)
}

// extensions reads all of them, or reports that it does not know one.
func (h *Hello) extensions(all cursor) bool {
	seen := make([]int, 0, maxExtensions)
	for len(all) > 0 {
		kind, ok1 := all.number()
		body, ok2 := all.list(2)
		if !ok1 || !ok2 || len(seen) == maxExtensions || slices.Contains(seen, int(kind)) || !h.extension(kind, body) {
			return false
		}
		seen = append(seen, int(kind))
	}
	return true
}

// extension reads one, and reports whether it has the form that it must have.
func (h *Hello) extension(kind uint16, body cursor) bool {
	switch kind {
	case extServerName:
		return h.name(body)
	case extALPN:
		return h.protocols(body)
	case extVersions:
		return h.versions(body)
	case extGroups, extSignatures, extSignaturesCert:
		list, ok := body.list(2)
		return ok && len(body) == 0 && len(list) > 0 && len(list)%2 == 0
	case extPointFormats:
		list, ok := body.list(1)
		return ok && len(body) == 0 && len(list) > 0
	case extPSKModes, extRenegotiation:
		_, ok := body.list(1)
		return ok && len(body) == 0
	case extKeyShare:
		return isKeyShare(body)
	case extStatusRequest:
		_, ok1 := body.take(1)
		_, ok2 := body.list(2)
		_, ok3 := body.list(2)
		return ok1 && ok2 && ok3 && len(body) == 0
	case extMasterSecret, extTimestamps:
		return len(body) == 0
	case extTicket, extMaxFragmentLength, extHeartbeat, extPadding, extEncryptThenMAC, extCompressCerts, extRecordSize, extPostHandshakeAuth:
		return true // neither crypto/tls nor we look into these
	}
	return false
}

// name reads server_name: one name and nothing else (RFC 6066, 3). A dot at its
// end is for crypto/tls to refuse.
func (h *Hello) name(body cursor) bool {
	list, ok := body.list(2)
	if !ok || len(body) != 0 {
		return false
	}
	kind, ok1 := list.take(1)
	name, ok2 := list.list(2)
	if !ok1 || !ok2 || kind[0] != 0 || len(list) != 0 || len(name) == 0 || name[len(name)-1] == '.' {
		return false
	}
	h.ServerName = serverName(string(name))
	return true
}

// protocols reads ALPN (RFC 7301, 3.1).
func (h *Hello) protocols(body cursor) bool {
	list, ok := body.list(2)
	if !ok || len(body) != 0 || len(list) == 0 {
		return false
	}
	for len(list) > 0 {
		name, ok := list.list(1)
		if !ok || len(name) == 0 {
			return false
		}
		h.ALPN = append(h.ALPN, string(name))
	}
	return true
}

// versions reads supported_versions (RFC 8446, 4.2.1).
func (h *Hello) versions(body cursor) bool {
	list, ok := body.list(1)
	if !ok || len(body) != 0 || len(list) == 0 {
		return false
	}
	offered := make([]uint16, 0, 127)
	for len(list) > 0 {
		v, ok := list.number()
		if !ok {
			return false
		}
		offered = append(offered, v)
	}
	h.Version = answerVersion(offered)
	return true
}

// isKeyShare reports whether body is a key_share (RFC 8446, 4.2.8).
func isKeyShare(body cursor) bool {
	list, ok := body.list(2)
	if !ok || len(body) != 0 {
		return false
	}
	for len(list) > 0 {
		_, ok1 := list.number() // group
		key, ok2 := list.list(2)
		if !ok1 || !ok2 || len(key) == 0 {
			return false
		}
	}
	return true
}

// A cursor is what is left to read. What cannot be read leaves it as it was or at
// its end: who is told so goes no further.
type cursor []byte

// take reads n bytes.
func (c *cursor) take(n int) (cursor, bool) {
	if n > len(*c) {
		return nil, false
	}
	out := (*c)[:n]
	*c = (*c)[n:]
	return out, true
}

// number reads two bytes.
func (c *cursor) number() (uint16, bool) {
	b, ok := c.take(2)
	if !ok {
		return 0, false
	}
	return uint16(b[0])<<8 | uint16(b[1]), true
}

// list reads as many bytes as the first size bytes, 1 or 2, say.
func (c *cursor) list(size int) (cursor, bool) {
	b, ok := c.take(size)
	if !ok {
		return nil, false
	}
	n := 0
	for _, x := range b {
		n = n<<8 | int(x)
	}
	return c.take(n)
}
