// Package revive brings a dead radio back: it restarts hostapd, then has the driver
// begin anew, then the whole box, each no more often than its limits allow, and no
// further than the configuration lets it.
//
// The firmware of some radios, the Raspberry Pi's own among them, stops for good
// under weak distant stations or load, and nobody comes by in the
// garage. What is done needs root, so it is a small service of its own and not the
// daemon. What is to be done is decided apart from doing it: patient and record are
// pure, and what they see and what is done for them is a world.
//
// It leaves to others to say how well chargers are heard, and who they are.
package revive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/hostapd"
)

// Config is what the service needs to know. Only Radios and Dir must be given.
type Config struct {
	Radios []Radio
	// Dir is where the record of what was done is kept over reboots.
	Dir  string
	Pace Pace
	// Kmsg is where the kernel's log is read; empty: /dev/kmsg.
	Kmsg string
	// Sys is where sysfs is mounted; empty: /sys.
	Sys string
	// Hostapd is the directory of hostapd's sockets; empty: hostapd.Dir.
	Hostapd string
	// Reports asks the daemon for each network's radio. A network that does not stand
	// in the answer has none of which it knows anything. Nil: nobody knows.
	Reports func(context.Context) (map[string]Report, error)
}

// Wanted are those radios for which anything may be done.
func Wanted(all []Radio) []Radio {
	var out []Radio
	for _, r := range all {
		if r.Reach > No {
			out = append(out, r)
		}
	}
	return out
}

// A Server watches over the radios.
type Server struct {
	world    world
	pace     Pace
	patients []*patient
	log      *event.Log

	path      string
	record    *record
	saved     moment // when the record was last written
	unwritten bool   // it could not be

	reports    map[string]Report // of the daemon, by network
	asked      moment            // when it was asked for them
	unanswered int               // how often in a row nobody knew
	lines      chan Line         // of the kernel's log, that may speak of a radio
	served     map[string]moment // since when each radio has served without a break
	restarted  map[string]bool   // the networks for whose radio the box was restarted, and nothing was amiss since
}

// A world is what the service sees, and what it can do there.
type world interface {
	uptime() time.Duration // since the boot
	boot() string          // names this boot; empty: unknown
	// look asks how a radio does; what the daemon says of it is left out. With an error
	// it is not known whether somebody has stopped it.
	look(ctx context.Context, r Radio) (Sight, error)
	reports(ctx context.Context) (map[string]Report, error)
	find(ifname string) (device, error)
	// follow hands over what the kernel says from now on, until ctx is done.
	follow(ctx context.Context, heard func(Line)) error
	// wanted says whether anything may be done for a radio now: chargegated runs, and
	// nobody has stopped the radio.
	wanted(ctx context.Context, r Radio) (bool, error)
	restart(ctx context.Context, r Radio) error
	rebind(ctx context.Context, r Radio, d device) error
	reboot(ctx context.Context) error
}

// New makes the service. Nothing is done until Serve.
func New(c Config, log *event.Log) *Server {
	e := &edge{kmsg: orElse(c.Kmsg, "/dev/kmsg"), sys: orElse(c.Sys, "/sys"), hostapd: orElse(c.Hostapd, hostapd.Dir), daemon: c.Reports}
	return newServer(c, e, log)
}

func newServer(c Config, w world, log *event.Log) *Server {
	s := &Server{world: w, pace: c.Pace.orDefault(), log: log, path: filepath.Join(c.Dir, fileName),
		lines: make(chan Line, 16), served: map[string]moment{}, restarted: map[string]bool{}}
	for _, r := range Wanted(c.Radios) {
		s.patients = append(s.patients, &patient{Radio: r, pace: s.pace})
	}
	return s
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Serve watches over the radios until ctx is done.
func (s *Server) Serve(ctx context.Context) error {
	s.open()
	for _, p := range s.patients {
		s.log.Say(event.ReviveWatching, s.about(p, event.F("REACH", p.Reach))...)
		s.locate(p)
	}
	s.recall()
	var reader sync.WaitGroup
	defer reader.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	reader.Go(func() { s.listen(ctx) })
	tick := time.NewTicker(s.pace.Every)
	defer tick.Stop()
	for {
		s.round(ctx)
		select {
		case l := <-s.lines:
			s.hear(l)
		case <-tick.C:
		case <-ctx.Done():
			if len(s.record.forget(s.world.uptime())) > 0 { // it is older now than it says
				s.save()
			}
			return nil
		}
	}
}

// open reads the record of what was done before.
func (s *Server) open() {
	now, boot := s.world.uptime(), s.world.boot()
	data, err := readFile(s.path)
	if err == nil && data == nil {
		s.record = newRecord()
		return
	}
	if err == nil {
		if s.record, err = decode(data, boot, now); err == nil {
			for _, p := range s.patients {
				if s.record.vain[p.Network] > 0 {
					s.restarted[p.Network], p.watched = true, true // or it would not be known for dead
				}
			}
			return
		}
		err = errors.Join(err, os.Rename(s.path, s.path+damagedSuffix))
	}
	s.log.Say(event.ReviveRecordUnread, event.F("FILE", s.path), event.Err(err))
	s.record = worst(now)
	s.save()
}

// recall says why the box was restarted for a radio. What was said of it then is gone:
// the log is kept in memory.
func (s *Server) recall() {
	if !s.record.before || len(s.record.signs) == 0 {
		return
	}
	for _, p := range s.patients {
		if sign, was := s.record.signs[p.Network]; was {
			s.log.Say(event.ReviveRebooted, s.about(p, event.F("COUNT", s.record.counts[p.Network].of(Reboot)), event.F("SIGN", sign))...)
		}
	}
	clear(s.record.signs)
	s.save()
}

// save writes the record down. It says so where it cannot.
func (s *Server) save() error {
	now := s.world.uptime()
	if err := replaceFile(s.path, s.record.encode(s.world.boot(), now)); err != nil {
		s.unwritten = true
		s.log.Say(event.ReviveRecordUnwritten, event.F("FILE", s.path), event.Err(err))
		return err
	}
	s.saved, s.unwritten = moment{now, true}, false
	return nil
}

// listen follows the kernel's log, and begins anew where that fails.
func (s *Server) listen(ctx context.Context) {
	for {
		err := s.world.follow(ctx, func(l Line) {
			if halts(l) {
				select {
				case s.lines <- l:
				default: // those that wait say the same
				}
			}
		})
		if ctx.Err() != nil {
			return
		}
		s.log.Say(event.ReviveBlind, event.F("WHAT", "the kernel's log"), event.Err(err))
		select {
		case <-time.After(time.Minute):
		case <-ctx.Done():
			return
		}
	}
}

// hear takes in a line of the kernel's log.
func (s *Server) hear(l Line) {
	for _, p := range s.patients {
		if s.record.where[p.Network].halted(l) {
			p.hears(s.world.uptime(), l.Text)
		}
	}
}

// round looks at every radio once, and does what follows.
func (s *Server) round(ctx context.Context) {
	s.inquire(ctx)
	for _, p := range s.patients {
		sight, err := s.world.look(ctx, p.Radio)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.log.Say(event.ReviveBlind, event.F("WHAT", "systemd"), event.Err(err))
		}
		sight.Report = unknown
		if r, known := s.reports[p.Network]; known {
			sight.Report = r
		}
		if d, err := s.world.find(p.Interface); err == nil {
			sight.Phy = d.Phy
		}
		now := s.world.uptime()
		p.sees(now, sight)
		s.wentWell(p, sight, now)
		s.act(ctx, p, p.judge(now, func(step Step) (bool, string) { return s.may(p, step, now) }))
	}
	// What is written is older now than it says, which nobody would know after a power cut.
	if now := s.world.uptime(); len(s.record.forget(now)) > 0 && (!s.saved.set || s.saved.lasts(now, time.Hour)) {
		s.save()
	}
}

// wentWell notes where a radio that serves is, and forgives the reboots in vain when
// it has served somebody for a while, or would have for a day.
func (s *Server) wentWell(p *patient, sight Sight, now time.Duration) {
	since := s.served[p.Network]
	if !sight.Serving {
		since = moment{}
	} else {
		since.begin(now)
		s.locate(p)
	}
	s.served[p.Network] = since
	served := p.someone && since.lasts(now, s.pace.Wait) || p.known && since.lasts(now, day)
	if s.record.vain[p.Network] == 0 || p.open != nil || !served {
		return
	}
	delete(s.record.vain, p.Network)
	s.save()
	if s.restarted[p.Network] {
		s.log.Say(event.ReviveRebootHelped, s.about(p)...)
	}
}

// locate remembers where the kernel keeps a radio, for when it is not there any more.
func (s *Server) locate(p *patient) {
	if d, err := s.world.find(p.Interface); err == nil {
		s.record.where[p.Network] = d
	}
}

// where is where a radio is, or was last; an error says why its driver cannot begin
// anew.
func (s *Server) where(p *patient) (device, error) {
	d, err := s.world.find(p.Interface)
	if err == nil {
		return d, nil
	}
	if had := s.record.where[p.Network]; had.Interface == p.Interface && !errors.Is(err, errVirtual) && !errors.Is(err, errFixed) && !errors.Is(err, errHangs) {
		return had, nil
	}
	return device{}, err
}

// may says whether a step can be taken and is within its limits, and if not why.
func (s *Server) may(p *patient, step Step, now time.Duration) (bool, string) {
	if step == Driver {
		if _, err := s.where(p); err != nil {
			return false, fmt.Sprintf("its driver cannot begin anew: %v", err)
		}
	}
	if step == Reboot && s.unwritten && s.save() != nil {
		return false, "what is done cannot be written down, so the reboots could not be counted"
	}
	return s.record.may(p.Network, step, now)
}

// act says what was found, and does what may be done now.
func (s *Server) act(ctx context.Context, p *patient, v verdict) {
	if v.dead {
		delete(s.restarted, p.Network)
		kind := event.ReviveNeeded
		if p.open.sign == deserted {
			kind = event.ReviveDeserted
		}
		s.log.Say(kind, s.about(p, event.F("SIGN", p.said(p.open.sign)))...)
	}
	switch {
	case v.helped && v.by == No:
		s.log.Say(event.ReviveRecovered, s.about(p, event.F("TOOK", v.after))...)
	case v.helped:
		s.log.Say(event.ReviveHelped, s.about(p, event.F("TOOK", v.after), event.F("BY", v.by.done()))...)
	case v.spent && p.open.sign == deserted:
		s.log.Say(event.ReviveLeft, s.about(p)...)
	case v.spent:
		s.log.Say(event.ReviveSpent, s.about(p, event.F("WHY", v.why))...)
	case v.step != No && s.allowed(ctx, p):
		s.do(ctx, p, v.step)
	}
	if v.lulled {
		s.log.Say(event.ReviveLulled, s.about(p, event.F("COUNT", enough), event.F("WITHIN", seldom))...)
	}
}

// allowed says whether anything may be done for a radio now. If not it is asked again
// later.
func (s *Server) allowed(ctx context.Context, p *patient) bool {
	if s.world.uptime() < s.pace.AfterBoot {
		return false
	}
	ok, err := s.world.wanted(ctx, p.Radio)
	if err != nil && ctx.Err() == nil {
		s.log.Say(event.ReviveBlind, event.F("WHAT", "systemd"), event.Err(err))
	}
	if ok = ok && err == nil; !ok {
		p.waits(s.world.uptime())
	}
	return ok
}

// do takes a step. It is written down before it is taken: a reboot that nobody
// remembers would be no reboot too many.
func (s *Server) do(ctx context.Context, p *patient, step Step) {
	d, _ := s.where(p)
	undo := s.record.clone()
	s.record.add(p.Network, step, s.world.uptime())
	if step == Reboot {
		s.record.signs[p.Network] = p.said(p.open.sign)
	}
	if s.save() != nil && step == Reboot {
		s.record = undo
		return
	}
	count := event.F("COUNT", s.record.counts[p.Network].of(step))
	var err error
	switch step {
	case Restart:
		s.log.Say(event.ReviveRestart, s.about(p, count)...)
		err = s.world.restart(ctx, p.Radio)
	case Driver:
		s.log.Say(event.ReviveDriver, s.about(p, count, event.F("DEVICE", d))...)
		err = errors.Join(s.world.rebind(ctx, p.Radio, d), s.world.restart(ctx, p.Radio))
	case Reboot:
		s.log.Say(event.ReviveReboot, s.about(p, count)...)
		if err = s.world.reboot(ctx); err != nil {
			delete(s.record.signs, p.Network) // none that the next boot could tell of
		}
	}
	if err != nil && ctx.Err() == nil {
		s.log.Say(event.ReviveStepFailed, s.about(p, event.F("STEP", step), event.Err(err))...)
	}
	p.did(s.world.uptime(), step, err != nil && !errors.Is(err, errLate))
}

// about are the fields of every event of a radio.
func (s *Server) about(p *patient, more ...event.Field) []event.Field {
	return append([]event.Field{event.Network(p.Network), event.F("INTERFACE", p.Interface)}, more...)
}

// inquire asks the daemon for its reports: often enough for what is made of them, and
// no more often.
func (s *Server) inquire(ctx context.Context) {
	now := s.world.uptime()
	if s.asked.set && now-s.asked.at < min(s.pace.Empty, s.pace.Mute, s.pace.Wait)/4 {
		return
	}
	s.asked = moment{now, true}
	reports, err := s.world.reports(ctx)
	if s.unanswered++; err == nil {
		s.unanswered = 0
	}
	if s.unanswered >= 5 && ctx.Err() == nil { // not for every restart of the daemon
		s.log.Say(event.ReviveBlind, event.F("WHAT", "the daemon, who is on the radios,"), event.Err(err))
	}
	s.reports = reports
}

// spoken writes a time as people say it.
func spoken(d time.Duration) string { return event.Duration(d.Round(time.Second)) }
