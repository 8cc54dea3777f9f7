package status

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// inWords says in a technician's words why a conversation did not come about
// within a time.
func inWords(err error, within time.Duration) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT),
		errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("no answer within %d s", max(1, int(within.Round(time.Second)/time.Second)))
	case errors.Is(err, syscall.ENETUNREACH):
		return "no route leads there"
	case errors.Is(err, syscall.EHOSTUNREACH):
		return "somebody on the way says that it cannot be reached"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "cut off (reset)"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed without an answer"
	case errors.Is(err, context.Canceled):
		return "broken off"
	case errors.Is(err, os.ErrPermission):
		return "forbidden by this box's own firewall"
	}
	return plainText(err.Error())
}

// noise is what Go's errors say of sockets, which nobody can act upon.
var noise = regexp.MustCompile(`\b(dial|read|write) (tcp|udp|ip)[46]?( [^ ]+)?: |\b(connect|getsockopt|recvmsg|sendto): `)

// plainer are words that a technician knows.
var plainer = strings.NewReplacer("i/o timeout", "no answer", "context deadline exceeded", "no answer", "connection refused", "refused",
	"remote error: tls: ", "the other side says: ", "tls: ", "", "x509: ", "")

// plainText takes the noise out of an error that has become a text.
func plainText(text string) string { return plainer.Replace(noise.ReplaceAllString(text, "")) }

// fewAddresses is how many addresses a line holds.
const fewAddresses = 4

// joined says of several addresses why none could be reached: once, when it is the
// same of all, and counted, where they are many. Those that were tried last had less
// time not to answer.
func joined(at, why []string) string {
	const silent = "no answer within "
	var kinds []string
	count := map[string]int{}
	for _, w := range why {
		i := slices.IndexFunc(kinds, func(k string) bool { return k == w || strings.HasPrefix(k, silent) && strings.HasPrefix(w, silent) })
		if i < 0 {
			i = len(kinds)
			kinds = append(kinds, w)
		}
		count[kinds[i]]++
	}
	within, mute := strings.CutPrefix(kinds[0], silent)
	switch {
	case len(why) == 1:
		return why[0]
	case len(kinds) == 1 && mute:
		return fmt.Sprintf("none of %d addresses answers within %s", len(why), within)
	case len(kinds) == 1:
		return fmt.Sprintf("%s, at each of %d addresses", kinds[0], len(why))
	}
	var parts []string
	if len(why) <= fewAddresses {
		for i := range why {
			parts = append(parts, at[i]+": "+why[i])
		}
		return strings.Join(parts, "; ")
	}
	for _, k := range kinds {
		parts = append(parts, fmt.Sprintf("%s: %s", plural(count[k], "address", "addresses"), k))
	}
	return strings.Join(parts, "; ")
}
