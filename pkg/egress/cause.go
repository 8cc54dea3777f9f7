package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
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

// How no address took the connection, or why none was found.
const (
	wayRefused = "refused"    // a machine is there, and nothing listens on the port; or a firewall says so
	waySilent  = "silent"     // nothing came back
	wayNone    = "no way"     // this box, or a router, knows no way there
	wayBox     = "box"        // this box has no descriptor, port or memory for it
	wayUnknown = "unknown"    // of causeDNS: the name does not exist
	wayOut     = "no way out" // this box has no default route, or no link: nobody could be asked or called
)

// A fault is why a name could not be reached: the cause, the way it failed, what each
// address or server said, and of causeAddress the private addresses that the rule could
// name.
type fault struct {
	cause, way, detail string
	private            []netip.Addr
}

// inWords is what the charger's page and status say of it.
func (f fault) inWords() string {
	switch {
	case f.way == wayOut:
		return "this box has no way out"
	case f.cause == causeDNS && f.way == wayUnknown:
		return "no DNS server knows the name"
	case f.cause == causeDNS:
		return "its address cannot be found"
	case f.cause == causeAddress:
		return f.detail
	case f.cause == causeTLS:
		return "its server refuses the conversation"
	}
	switch f.way {
	case waySilent:
		return "no server answers"
	case wayNone:
		return "there is no way to its server"
	case wayBox:
		return "this box is out of descriptors, ports or memory"
	}
	return "no server takes the connection"
}

// A dialError says why an allowed name could not be reached.
type dialError struct {
	cause   string
	way     string // of causeTCP and causeDNS
	err     error
	private []netip.Addr // of causeAddress: those that the rule could name
}

func (e *dialError) Error() string {
	return strings.ReplaceAll(e.err.Error(), "\n", "; ")
}

func (e *dialError) Unwrap() error { return e.err }

// faultOf is what an error of the dialler says.
func faultOf(err error) fault {
	f := fault{cause: causeTCP, way: waySilent, detail: err.Error()}
	var de *dialError
	if errors.As(err, &de) {
		f.cause, f.way, f.private = de.cause, de.way, de.private
	}
	return f
}

// newDNSError is the error of a name whose addresses were not found.
func newDNSError(err error) *dialError {
	e := &dialError{cause: causeDNS, err: err}
	var de *net.DNSError
	if errors.As(err, &de) {
		e.err = errors.New(de.Err) // the name stands before it already
		if de.IsNotFound {
			e.way = wayUnknown
		}
	}
	return e
}

// newAddressError is the error of a name of whose addresses none may be dialled, for
// these reasons. private are those that the rule could name.
func newAddressError(why []error, private []netip.Addr) *dialError {
	const most = 3
	if more := len(why) - most; more > 0 {
		why = append(why[:most:most], fmt.Errorf("and %d more", more))
	}
	return &dialError{cause: causeAddress, err: errors.Join(why...), private: private}
}

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
