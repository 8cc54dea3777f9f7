package resolver

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"
)

// The parts of a cookie (RFC 7873, 4; RFC 9018, 4).
const (
	clientCookie = 8
	serverCookie = 16 // version, three bytes of zero, four of time, eight of hash
	maxCookie    = clientCookie + 32
)

const (
	// cookieLasts and cookieRenew are for how long a server's half is recognised
	// and from when on it is made anew (RFC 9018, 4.3).
	cookieLasts = time.Hour
	cookieRenew = cookieLasts / 2
	// secretLasts is how long one secret makes new cookies. The one before is
	// still recognised.
	secretLasts = 24 * time.Hour
)

// isCookie reports whether a value has a length that a cookie can have: the
// client's half alone, or both (RFC 7873, 5.2.2).
func isCookie(value []byte) bool {
	return len(value) == clientCookie || len(value) >= clientCookie+8 && len(value) <= maxCookie
}

// cookies makes and recognises the server's half of DNS cookies. Nobody is
// refused for want of one: whoever asks is on a network of our own, and is
// limited by its address (RFC 7873, 5.2.3 leaves the choice). Its times count
// from the start of this daemon on the monotonic clock (F-12), and its secret is
// never written down, so a cookie from before a restart is made anew. It is safe
// for concurrent use.
type cookies struct {
	began time.Time

	mu      sync.Mutex
	since   time.Time // when secret was made
	secret  [sha256.Size]byte
	earlier [sha256.Size]byte
}

func newCookies(now time.Time) *cookies {
	c := &cookies{began: now, since: now}
	_, _ = rand.Read(c.secret[:]) // never fails
	_, _ = rand.Read(c.earlier[:])
	return c
}

// answer returns the cookie that goes back to who sent one: the client's half
// and ours, which is the one it sent while that is young, else a new one. got
// has a length that isCookie accepts.
func (c *cookies) answer(got []byte, from netip.Addr, now time.Time) []byte {
	secret, earlier := c.secrets(now)
	client, server := got[:clientCookie], got[clientCookie:]
	if age, ok := c.age(server, now); ok && age < cookieRenew &&
		(matches(secret, client, server, from) || matches(earlier, client, server, from)) {
		return got
	}
	out := append(make([]byte, 0, clientCookie+serverCookie), client...)
	head := [8]byte{1} // the version
	binary.BigEndian.PutUint32(head[4:], uint32(now.Sub(c.began)/time.Second))
	out = append(out, head[:]...)
	hash := cookieHash(secret, client, head[:], from)
	return append(out, hash[:]...)
}

// age says how old the server's half claims to be. It is not ok when it is none
// of ours, too old, or from the future.
func (c *cookies) age(server []byte, now time.Time) (time.Duration, bool) {
	if len(server) != serverCookie || server[0] != 1 {
		return 0, false
	}
	age := now.Sub(c.began) - time.Duration(binary.BigEndian.Uint32(server[4:]))*time.Second
	return age, age >= 0 && age < cookieLasts
}

// secrets returns the secret and the one before it, changed when it is time.
func (c *cookies) secrets(now time.Time) (secret, earlier [sha256.Size]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.since) >= secretLasts {
		c.earlier, c.since = c.secret, now
		_, _ = rand.Read(c.secret[:])
	}
	return c.secret, c.earlier
}

func matches(secret [sha256.Size]byte, client, server []byte, from netip.Addr) bool {
	hash := cookieHash(secret, client, server[:8], from)
	return subtle.ConstantTimeCompare(hash[:], server[8:]) == 1
}

// cookieHash is the hash of RFC 9018, 4.4, with HMAC-SHA-256 cut to eight bytes
// in the place of SipHash: one server alone makes and reads it.
func cookieHash(secret [sha256.Size]byte, client, head []byte, from netip.Addr) (out [8]byte) {
	h := hmac.New(sha256.New, secret[:])
	h.Write(client)
	h.Write(head)
	h.Write(from.AsSlice())
	copy(out[:], h.Sum(nil))
	return out
}
