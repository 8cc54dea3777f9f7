// Package run keeps the services of the house running: it opens every door
// before anybody is told that the house is open, starts each service under a
// supervisor (thejerf/suture) that restarts a failed one alone, tells systemd
// READY, WATCHDOG and STOPPING, and ends everything in time when asked to.
//
// It leaves to each service what it does, and to main which services there are.
package run

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/thejerf/suture/v4"

	"chargegate/pkg/event"
)

// A Service is one room at work.
type Service interface {
	// Name is how the log, the metrics and errors call it.
	Name() string
	// Listen takes every socket and handle, or fails now. What is already held
	// stays held.
	Listen() error
	// Serve works until ctx is done and returns nil once all it started has
	// ended. It calls Listen itself where nothing is held. Any other end is an
	// error, and Serve is called again.
	Serve(ctx context.Context) error
}

// ErrGaveUp is returned by All when a service failed again and again.
var ErrGaveUp = errors.New("a service keeps failing")

// ListenError says which service could not take its sockets.
type ListenError struct {
	Service string
	Err     error
}

func (e *ListenError) Error() string { return e.Service + ": " + e.Err.Error() }
func (e *ListenError) Unwrap() error { return e.Err }

// Grace is how long services may take to end: systemd and people wait for
// five seconds in all.
const Grace = 4 * time.Second

// Options say how All speaks with the world.
type Options struct {
	Log *event.Log
	// Alive asks the house a real question. Only when it was answered is the
	// watchdog fed. Nil: the watchdog is not fed.
	Alive func(context.Context) error
	// Status is the line that systemctl status shows; nil: none. It is told with
	// each sign of life.
	Status func() string
	// Notify tells the service manager; nil: systemd, where it started us.
	Notify func(state string) error
	// Watchdog is how often systemd wants a sign of life; zero: as it says in
	// WATCHDOG_USEC.
	Watchdog time.Duration
	// Ready is called once every socket is taken and READY was said.
	Ready func()
}

// All takes the sockets of all services in their order, tells READY, and serves
// until ctx is done. It returns nil after an orderly stop, a *ListenError when
// a socket was not to be had, and ErrGaveUp when a service keeps failing.
func All(ctx context.Context, o Options, services ...Service) error {
	if o.Notify == nil {
		o.Notify = func(state string) error { _, err := daemon.SdNotify(false, state); return err }
	}
	for _, s := range services {
		if err := s.Listen(); err != nil {
			return &ListenError{Service: s.Name(), Err: err}
		}
	}
	every := o.Watchdog
	if every == 0 {
		every, _ = daemon.SdWatchdogEnabled(false) // 0 when systemd does not ask for it
	}
	if every > 0 && o.Alive != nil {
		services = append(services, &watchdog{every: every / 3, alive: o.Alive, status: o.Status, notify: o.Notify, log: o.Log})
	}
	services = append(services, &farewell{log: o.Log})
	house := suture.New("chargegate", suture.Spec{
		EventHook:        func(suture.Event) {}, // supervised says it, in our own words
		FailureThreshold: 1 << 20,               // supervised decides when enough is enough
		Timeout:          Grace,
	})
	for _, s := range services {
		house.Add(&supervised{Service: s, log: o.Log})
	}
	// The kernel queues packets for us already: ready is a fact, not a hope.
	if err := o.Notify(daemon.SdNotifyReady); err != nil {
		return &ListenError{Service: "systemd", Err: fmt.Errorf("telling READY: %w", err)}
	}
	if o.Ready != nil {
		o.Ready()
	}
	// A goroutine of suture's: it ends with ctx.
	err := house.Serve(ctx)
	o.Notify(daemon.SdNotifyStopping) // nothing to do about a failure: we are leaving
	if ctx.Err() != nil {
		return nil
	}
	if errors.Is(err, suture.ErrTerminateSupervisorTree) {
		return ErrGaveUp
	}
	return err
}

const (
	// patience: so many failures of one service within the time below end the
	// process; systemd starts it afresh.
	patience       = 6
	patienceWithin = 2 * time.Minute
	firstBackOff   = 100 * time.Millisecond
)

// supervised is a service that says when it fails, waits a little longer after
// each failure, and gives up in the end. suture calls Serve again each time,
// never twice at once.
type supervised struct {
	Service
	log      *event.Log
	failures []time.Time
}

// String is how suture calls it.
func (s *supervised) String() string { return s.Name() }

func (s *supervised) Serve(ctx context.Context) error {
	err := guarded(ctx, s.Service)
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = errors.New("ended though nobody asked it to")
	}
	now := time.Now()
	for len(s.failures) > 0 && now.Sub(s.failures[0]) > patienceWithin {
		s.failures = s.failures[1:]
	}
	s.failures = append(s.failures, now)
	s.log.Say(event.ServiceFailed, event.F("SERVICE", s.Name()), event.Err(err))
	if len(s.failures) >= patience {
		s.log.Say(event.ServiceGaveUp, event.F("SERVICE", s.Name()))
		return suture.ErrTerminateSupervisorTree
	}
	select {
	case <-time.After(firstBackOff << (len(s.failures) - 1)):
	case <-ctx.Done():
	}
	return err
}

// farewell says that the daemon was asked to stop, as soon as it was.
type farewell struct{ log *event.Log }

func (f *farewell) Name() string  { return "farewell" }
func (f *farewell) Listen() error { return nil }

func (f *farewell) Serve(ctx context.Context) error {
	<-ctx.Done()
	f.log.Say(event.DaemonStopping)
	return nil
}

// guarded turns a panic of the service's own goroutine into an error.
func guarded(ctx context.Context, s Service) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return s.Serve(ctx)
}
