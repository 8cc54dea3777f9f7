package egress

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"chargegate/pkg/event"

	"golang.org/x/sys/unix"
)

// What kept a name from being reached, as the metrics and the log call it.
const (
	causeDNS     = "dns"     // its addresses could not be found
	causeAddress = "address" // it has addresses, but none that may be dialled
	causeTCP     = "tcp"     // no address took the connection
	causeTLS     = "tls"     // the connection was taken, and the conversation refused
)

var causes = []string{causeDNS, causeAddress, causeTCP, causeTLS}

// How no address took the connection.
const (
	wayRefused = "refused" // a machine is there, and nothing listens on the port; or a firewall says so
	waySilent  = "silent"  // nothing came back
	wayNone    = "no way"  // this box, or a router, knows no way there
	wayBox     = "box"     // this box has no descriptor, port or memory for it
)

// inWords is what the charger's page says of a cause and the way it failed.
func inWords(cause, way string) string {
	switch cause {
	case causeDNS:
		return "its address cannot be found"
	case causeAddress:
		return "it has no address that may be dialled"
	case causeTLS:
		return "its server refuses the conversation"
	}
	switch way {
	case waySilent:
		return "no server answers"
	case wayNone:
		return "there is no way to its server: is the uplink connected?"
	case wayBox:
		return "this box is out of descriptors, ports or memory"
	}
	return "no server takes the connection"
}

// A dialError says why an allowed name could not be reached.
type dialError struct {
	cause string
	way   string // of causeTCP
	err   error
}

func (e *dialError) Error() string {
	return strings.ReplaceAll(e.err.Error(), "\n", "; ")
}

func (e *dialError) Unwrap() error { return e.err }

// A tryError is why one address did not take a connection.
type tryError struct {
	addr  netip.Addr
	after time.Duration
	err   error
}

func (e *tryError) Error() string {
	switch way := wayOf(e.err); {
	case errors.Is(e.err, unix.ECONNREFUSED), errors.Is(e.err, unix.ECONNRESET):
		return fmt.Sprintf("%s refused the connection", e.addr)
	case way == waySilent:
		return fmt.Sprintf("%s did not answer within %s", e.addr, event.Duration(e.after.Round(50*time.Millisecond)))
	case way == wayNone:
		return fmt.Sprintf("there is no way to %s (%v)", e.addr, bare(e.err))
	}
	return fmt.Sprintf("%s: %v", e.addr, bare(e.err))
}

func (e *tryError) Unwrap() error { return e.err }

// bare is what the kernel said, without the names of calls and addresses around it.
func bare(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// silent reports whether an attempt ended without a word from anybody.
func silent(err error) bool { return wayOf(err) == waySilent }

// wayOf tells how a connection failed.
func wayOf(err error) string {
	is := func(list ...error) bool {
		for _, e := range list {
			if errors.Is(err, e) {
				return true
			}
		}
		return false
	}
	switch {
	case is(unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENETDOWN, unix.EHOSTDOWN, unix.EACCES, unix.EPERM):
		return wayNone
	case is(os.ErrDeadlineExceeded, context.DeadlineExceeded, unix.ETIMEDOUT):
		return waySilent
	case is(unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.EAGAIN, unix.EADDRNOTAVAIL): // connect(2)
		return wayBox
	}
	return wayRefused
}

// newTCPError is the error of somebody whom no address took. Where they failed in
// different ways, an answer counts more than silence, and silence more than that
// there is no way.
func newTCPError(errs []error) *dialError {
	e := &dialError{cause: causeTCP, way: wayNone}
	rank := map[string]int{wayNone: 0, waySilent: 1, wayRefused: 2, wayBox: 3}
	var said []error
	for _, err := range errs {
		if err == nil {
			continue
		}
		if w := wayOf(err); rank[w] > rank[e.way] {
			e.way = w
		}
		said = append(said, err)
	}
	if len(said) == 0 {
		e.way, said = waySilent, []error{errors.New("no address answered in time")}
	}
	e.err = errors.Join(said...)
	return e
}
