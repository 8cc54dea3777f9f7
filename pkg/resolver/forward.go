package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"chargegate/pkg/event"

	"github.com/miekg/dns"
)

// How long one server has for one try before that is a failure and it is asked
// again. TLS takes three round trips more. An answer that comes later is taken
// all the same while the question lasts.
const (
	tryPlain = time.Second
	tryTLS   = 2 * time.Second
)

// targetsFor is how long the list of servers is used before resolv.conf is looked
// at again.
const targetsFor = time.Second

// A target is one server to ask.
type target struct {
	addr    netip.AddrPort
	tlsName string
}

// String writes the target as the configuration does.
func (t target) String() string {
	if t.tlsName != "" {
		return fmt.Sprintf("tls://%s#%s", t.addr, t.tlsName)
	}
	return t.addr.String()
}

// patience is how long one try may take.
func (t target) patience() time.Duration {
	if t.tlsName != "" {
		return tryTLS
	}
	return tryPlain
}

// A silence is the failure of a server that does not answer. It is a timeout to
// whoever asks.
type silence struct{}

func (silence) Error() string { return "no answer" }
func (silence) Unwrap() error { return os.ErrDeadlineExceeded }

var errSilent error = silence{}

// A forwarder asks the upstreams. It is safe for concurrent use.
type forwarder struct {
	upstreams []Upstream
	system    *resolvConf
	isOurs    func(netip.AddrPort) bool
	usable    func(netip.Addr) bool
	log       *event.Log
	count     *counters
	// proof returns the names that a server must all have failed for to be told as
	// one that gives nothing but errors.
	proof   func() []string
	proving atomic.Bool // nobody answers, and these names are being asked for
	health  health
	ports   ports
	dot     *dot

	mu     sync.Mutex
	looked time.Time // when the list of servers was made
	listed []target  // the list
	life   context.Context
	die    context.CancelFunc // nil: shut
	wg     sync.WaitGroup
}

func newForwarder(cfg Config, isOurs func(netip.AddrPort) bool, log *event.Log, count *counters) *forwarder {
	path := cfg.ResolvConf
	if path == "" {
		path = "/etc/resolv.conf"
	}
	f := &forwarder{
		upstreams: cfg.Upstreams, system: &resolvConf{path: path}, isOurs: isOurs,
		usable: usable(cfg.Gateways), log: log, count: count, proof: func() []string { return nil },
	}
	f.dot = newDot(f, cfg.Synchronised)
	f.open()
	return f
}

// open lets tries begin, again after shut.
func (f *forwarder) open() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.die == nil {
		f.life, f.die = context.WithCancel(context.Background())
	}
}

// shut breaks off every try and waits for it, and closes every connection.
func (f *forwarder) shut() {
	f.mu.Lock()
	if f.die != nil {
		f.die()
		f.die = nil
	}
	f.mu.Unlock()
	f.wg.Wait()
	f.ports.shut()
}

// spawn runs work that shut waits for, with a context that ends then. It reports
// whether it does: not after shut. A panic is said, and ends the work only.
func (f *forwarder) spawn(work func(life context.Context)) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.die == nil {
		return false
	}
	life := f.life
	f.wg.Go(func() {
		defer f.survive(nil)
		work(life)
	})
	return true
}

// survive is deferred around everything that reads what a server sent.
func (f *forwarder) survive(err *error) {
	if p := recover(); p != nil {
		f.count.panics.Add(1)
		f.log.Say(event.PanicRecovered, event.F("SERVICE", "resolver"), event.F("ERROR", fmt.Sprint(p)), event.F("STACK", string(debug.Stack())))
		if err != nil {
			*err = errors.New("a fault of our own")
		}
	}
}

// ask asks for the addresses of a name until ctx is done, for at most budget: the
// best server first, and when that takes longer than it usually does the others
// as well. The first answer wins. The error of the last try is returned when all
// failed.
func (f *forwarder) ask(ctx context.Context, name string) (a answer, err error) {
	defer f.survive(&err)
	now := time.Now()
	all, err := f.servers(now)
	if err != nil {
		f.say(f.health.noServer(err))
		return answer{}, err
	}
	order, beside := f.health.order(all, now)
	if beside != (target{}) {
		f.askBeside(beside, name)
	}
	first := f.alone(ctx, order[0], name)
	if first.over() && first.err == nil {
		return first.answer, nil
	}
	a, err = f.race(ctx, name, order, first, func(ctx context.Context, t target, l *letter) report { return f.try(ctx, t, name, l) })
	switch {
	case err == nil && a.ttl == 0: // the best that anybody had to say
		f.missed(errUnproven)
	case err != nil && !errors.Is(ctx.Err(), context.Canceled):
		f.missed(err)
	}
	return a, err
}

// A report is how a try ended.
type report struct {
	answer answer
	took   time.Duration // of the answer alone; 0: not measured
	err    error
}

// A beginning is how far the first try has come without anybody's help.
type beginning struct {
	report
	at     time.Time // when the question began
	tried  bool      // it has begun
	letter *letter   // it is on its way still
}

// over reports whether the try has ended.
func (b beginning) over() bool { return b.tried && b.letter == nil }

// alone is the ordinary case: one question over UDP to the best server, answered
// before its head start is over, with nothing else started. Whatever is not that
// simple is left to others.
func (f *forwarder) alone(ctx context.Context, c contender, name string) beginning {
	if c.tlsName != "" {
		return beginning{at: time.Now()}
	}
	began := beginning{at: time.Now(), tried: true}
	l, err := f.ports.post(c.addr, name, f.health.manners(c.target, began.at))
	if err == nil {
		err = l.await(ctx, l.sent.Add(c.headStart), f.ignored)
		if isTimeout(err) || errors.Is(err, context.Canceled) || err == nil && !l.isPlain() {
			began.letter = l
			return began
		}
		defer l.end()
	}
	if err == nil {
		began.answer, err = f.understand(name, l.query, l.in)
		began.took = l.took
	}
	if err == nil {
		f.noteManners(c.target, l)
	}
	began.err = about(c.target, name, err)
	f.learn(c.target, name, began.report)
	return began
}

// try asks one server once, over its own transport. l is a letter to it that is
// on its way already, or nil; it is ended here.
func (f *forwarder) try(ctx context.Context, t target, name string, l *letter) (r report) {
	defer f.survive(&r.err)
	if t.tlsName != "" {
		r = f.dot.ask(ctx, t, name)
	} else {
		r = f.plainly(ctx, t, name, l)
	}
	r.err = about(t, name, r.err)
	return r
}

// about says of an error whom it concerns.
func about(t target, name string, err error) error {
	if err == nil {
		return nil
	}
	return &failure{t, name, err}
}

// A failure is what went wrong with one server.
type failure struct {
	target target
	name   string
	err    error
}

func (f *failure) Error() string {
	return fmt.Sprintf("asking %s for %s: %v", f.target, plain(f.name), f.err)
}
func (f *failure) Unwrap() error { return f.err }

// understand reads a message that fits its query.
func (f *forwarder) understand(name string, q query, in []byte) (answer, error) {
	m, err := q.read(in)
	if err != nil {
		return answer{}, fmt.Errorf("%w: it cannot be read: %w", errAnswer, err)
	}
	return f.weigh(name, m)
}

// errUnproven comes with an answer that says that there is nothing, without the
// proof that RFC 2308 wants. It is the answer if no other server has a better one.
var errUnproven = fmt.Errorf("%w: it says that there is nothing, and does not prove it", errAnswer)

// weigh reduces what a server said to what answers the question. A server that
// has nothing to say of the name speaks for itself and not for the name: that is
// no answer.
func (f *forwarder) weigh(name string, m *dns.Msg) (answer, error) {
	if isLame(m) {
		return answer{}, fmt.Errorf("%w: it knows nothing of the name and asks nobody else", errAnswer)
	}
	a, err := reduce(name, m, f.usable)
	if err == nil && a.ttl == 0 {
		err = errUnproven
	}
	return a, err
}

// learn takes the end of a try into account.
func (f *forwarder) learn(t target, name string, r report) {
	now := time.Now()
	switch {
	case r.err == nil:
		f.count.upstream(nil, r.took)
		f.say(f.health.answered(t, r.took, now))
	case errors.Is(r.err, context.Canceled), isOurFault(r.err): // says nothing of the server
	case errors.Is(r.err, errAnswer): // it lives, and knows no better
		f.count.upstream(r.err, 0)
		f.health.knewNoBetter(t, name, f.proof(), r.err, now)
	default:
		f.count.upstream(r.err, 0)
		f.lost(t, f.health.failed(t, r.err, now))
	}
}

// missed notes that a question got no answer that can be used.
func (f *forwarder) missed(err error) {
	if !f.health.allSilent() {
		f.say(f.health.nobody(err))
		return
	}
	if f.proving.CompareAndSwap(false, true) {
		f.unlessProved(func(ctx context.Context, name string) error {
			_, err := f.ask(ctx, name)
			return err
		}, func() { f.say(f.health.nobody(err)) }, func() { f.proving.Store(false) })
	}
}

// lost says that a server is lost, if that is the news.
func (f *forwarder) lost(t target, n news) {
	if n.kind == nil {
		return
	}
	f.unlessProved(func(ctx context.Context, name string) error {
		try := func(ctx context.Context, t target, l *letter) report { return f.try(ctx, t, name, l) }
		return f.follow(ctx, t, name, time.Now(), nil, try, func() {}).err
	}, func() { f.say(f.health.tell(t, n)) }, func() {})
}

// unlessProved asks for the names that prove a server, says something unless one of
// them is answered, and then is done. What looks like a silent server may be a zone
// whose own servers are silent: two of Zaptec's names are in one zone, and the hub
// is in another.
func (f *forwarder) unlessProved(ask func(ctx context.Context, name string) error, say, done func()) {
	names := f.proof()
	if len(names) == 0 || !f.spawn(func(life context.Context) {
		defer done()
		ctx, cancel := context.WithTimeout(life, budget)
		defer cancel()
		var proved atomic.Bool
		var all sync.WaitGroup
		for _, name := range names {
			all.Go(func() {
				defer f.survive(nil)
				if ask(ctx, name) == nil {
					proved.Store(true)
					cancel()
				}
			})
		}
		all.Wait()
		if !proved.Load() {
			say()
		}
	}) {
		say()
		done()
	}
}

func (f *forwarder) ignored() { f.count.ignored.Add(1) }

// servers returns the servers to ask, looked up at most once a second.
func (f *forwarder) servers(now time.Time) ([]target, error) {
	f.mu.Lock()
	if len(f.listed) > 0 && now.Sub(f.looked) < targetsFor {
		defer f.mu.Unlock()
		return f.listed, nil
	}
	f.mu.Unlock()
	all, err := f.targets()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listed, f.looked = all, now
	return all, err
}

// targets returns the servers to ask now, in the order of the configuration, without
// ourselves.
func (f *forwarder) targets() ([]target, error) {
	var all []target
	var fault error
	for _, u := range f.upstreams {
		if !u.System {
			all = append(all, target{u.Addr, u.TLSName})
			continue
		}
		addrs, err := f.system.servers()
		if err != nil {
			fault = err
		}
		for _, addr := range addrs {
			all = append(all, target{addr: addr})
		}
	}
	var us []string
	all = slices.DeleteFunc(all, func(t target) bool {
		ours := f.isOurs(t.addr)
		if ours {
			us = append(us, t.addr.Addr().String())
			f.log.Say(event.ResolverUpstreamIsUs, event.F("UPSTREAM", t))
		}
		return ours
	})
	switch {
	case len(all) > 0:
		return once(all), nil
	case fault != nil:
		return nil, fault
	}
	return nil, f.onlyUs(us)
}

// onlyUs says that whoever names the servers names nobody but this box.
func (f *forwarder) onlyUs(us []string) error {
	where := "[dns] upstreams"
	if slices.ContainsFunc(f.upstreams, func(u Upstream) bool { return u.System }) {
		where = f.system.path
	}
	return fmt.Errorf("%s names only this box itself (%s)", where, strings.Join(us, ", "))
}

// once leaves each server in the list once.
func once(all []target) []target {
	var out []target
	for _, t := range all {
		if !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}

func (f *forwarder) say(n news) {
	if n.kind != nil {
		f.log.Say(n.kind, n.fields...)
	}
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// askUpstream asks for a key and remembers what its addresses are called.
func (s *Server) askUpstream(ctx context.Context, name string) (answer, error) {
	a, err := s.forward.ask(ctx, name)
	switch {
	case err == nil:
		s.given.note(name, s.memory.isExact(name), a.addrs, time.Now())
	case errors.Is(err, errAnswer) && !s.forward.health.suspicious(): // servers that do not answer, or only with errors, have events of their own
		s.log.Say(event.ResolverNameFailed, event.F("NAME", plain(name)), event.Err(err))
	}
	return a, err
}
