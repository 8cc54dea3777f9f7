package run_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/run"
)

// service is a room made of functions.
type service struct {
	name   string
	listen func() error
	serve  func(context.Context) error
}

func (s *service) Name() string { return s.name }
func (s *service) Listen() error {
	if s.listen == nil {
		return nil
	}
	return s.listen()
}
func (s *service) Serve(ctx context.Context) error {
	if s.serve == nil {
		<-ctx.Done()
		return nil
	}
	return s.serve(ctx)
}

// manager remembers what systemd was told.
type manager struct {
	mu   sync.Mutex
	said []string
}

func (m *manager) notify(state string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said = append(m.said, state)
	return nil
}

func (m *manager) count(state string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, s := range m.said {
		if s == state {
			n++
		}
	}
	return n
}

func newLog() *event.Log { return event.New(event.Options{Level: event.Debug, Keep: 100}) }

func ids(log *event.Log) []string {
	var out []string
	for _, r := range log.Recent(0, "") {
		out = append(out, r.Kind.ID)
	}
	return out
}

func TestReadyOnlyAfterEverySocketIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m manager
		var order []string
		listen := func(name string) func() error {
			return func() error { order = append(order, name); return nil }
		}
		ctx, cancel := context.WithCancel(t.Context())
		o := run.Options{Log: newLog(), Notify: m.notify, Ready: func() {
			order = append(order, "ready")
			cancel()
		}}
		err := run.All(ctx, o, &service{name: "dhcp", listen: listen("dhcp")}, &service{name: "resolver", listen: listen("resolver")})
		if err != nil {
			t.Fatalf("an orderly stop returned %v", err)
		}
		if want := []string{"dhcp", "resolver", "ready"}; !slices.Equal(order, want) {
			t.Errorf("order %v, want %v", order, want)
		}
		if want := []string{"READY=1", "STOPPING=1"}; !slices.Equal(m.said, want) {
			t.Errorf("systemd heard %v, want %v", m.said, want)
		}
	})
}

func TestSocketThatIsTakenStopsTheStart(t *testing.T) {
	var m manager
	taken := errors.New("address already in use")
	err := run.All(t.Context(), run.Options{Notify: m.notify},
		&service{name: "dhcp"}, &service{name: "resolver", listen: func() error { return taken }})
	var le *run.ListenError
	if !errors.As(err, &le) || le.Service != "resolver" || !errors.Is(err, taken) {
		t.Errorf("got %v, want the resolver's listen error", err)
	}
	if len(m.said) != 0 {
		t.Errorf("systemd heard %v before every socket was taken", m.said)
	}
}

func TestFailedServiceIsStartedAgainAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m manager
		log := newLog()
		ctx, cancel := context.WithCancel(t.Context())
		starts, other := 0, 0
		err := run.All(ctx, run.Options{Log: log, Notify: m.notify},
			&service{name: "resolver", serve: func(ctx context.Context) error {
				starts++
				switch starts {
				case 1:
					return errors.New("socket broke")
				case 2:
					panic("nil map")
				case 3:
					return nil // ending unasked is a failure, too
				}
				cancel()
				<-ctx.Done()
				return nil
			}},
			&service{name: "dhcp", serve: func(ctx context.Context) error { other++; <-ctx.Done(); return nil }})
		if err != nil || starts != 4 || other != 1 {
			t.Errorf("err %v, resolver started %d times, dhcp %d times; want nil, 4, 1", err, starts, other)
		}
		if got := ids(log); !slices.Equal(got, []string{"service-failed", "service-failed", "service-failed", "daemon-stopping"}) {
			t.Errorf("events %v", got)
		}
		if e := log.Recent(0, "")[1].Field("ERROR"); !strings.Contains(e, "panic: nil map") {
			t.Errorf("the panic is told as %q", e)
		}
	})
}

func TestServiceThatKeepsFailingEndsTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m manager
		log := newLog()
		otherEnded := false
		began := time.Now()
		err := run.All(t.Context(), run.Options{Log: log, Notify: m.notify},
			&service{name: "egress", serve: func(context.Context) error { return errors.New("no memory") }},
			&service{name: "dhcp", serve: func(ctx context.Context) error { <-ctx.Done(); otherEnded = true; return nil }})
		if !errors.Is(err, run.ErrGaveUp) {
			t.Errorf("got %v, want ErrGaveUp", err)
		}
		if !otherEnded {
			t.Error("the other service was not asked to end")
		}
		if took := time.Since(began); took < time.Second || took > time.Minute {
			t.Errorf("gave up after %v, want some patience with back-off", took)
		}
		if got := ids(log); !slices.Contains(got, "service-gave-up") {
			t.Errorf("last event %v", got)
		}
	})
}

func TestWatchdogIsFedOnlyWhenTheHouseAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m manager
		log := newLog()
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		var sick error
		o := run.Options{Log: log, Notify: m.notify, Watchdog: 30 * time.Second, Status: func() string { return "all well" }, Alive: func(ctx context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			return sick
		}}
		done := make(chan error)
		go func() { done <- run.All(ctx, o, &service{name: "dhcp"}) }()

		time.Sleep(65 * time.Second) // virtual: 0, 10, 20 … 60 s
		if n := m.count("WATCHDOG=1\nSTATUS=all well"); n != 7 {
			t.Errorf("fed %d times in 65 s, want 7", n)
		}
		mu.Lock()
		sick = errors.New("no answer")
		mu.Unlock()
		time.Sleep(40 * time.Second)
		if n := m.count("WATCHDOG=1\nSTATUS=all well"); n != 7 {
			t.Errorf("fed %d times in all, though the house has not answered since", n)
		}
		if got := ids(log); !slices.Contains(got, "watchdog-starved") {
			t.Errorf("events %v do not say so", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestHungServiceDoesNotHoldTheStopForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m manager
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		defer close(release)
		began := time.Now()
		err := run.All(ctx, run.Options{Log: newLog(), Notify: m.notify, Ready: cancel},
			&service{name: "egress", serve: func(context.Context) error { <-release; return nil }})
		if took := time.Since(began); err != nil || took > 5*time.Second {
			t.Errorf("stopped after %v with %v, want within 5 s", took, err)
		}
	})
}
