package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/mdlayher/wifi"

	"chargegate/pkg/air"
	"chargegate/pkg/config"
)

const (
	// passes is how often all channels are listened to, and apart the time between.
	passes = 8
	apart  = 500 * time.Millisecond
	// listenWithin bounds all of the listening. After rescue systemd starts a stopped
	// radio itself, whatever has become of the survey.
	listenWithin = 2 * time.Minute
	rescue       = 4 * time.Minute
	// returnWithin bounds how long a radio that was stopped is waited for.
	returnWithin = 40 * time.Second
)

// A survey listens with the radio of one network, and gives it back as it was.
type survey struct {
	*call
	rig
	cfg       *config.Config
	file      string
	network   config.Network
	interrupt bool
}

// errLeft is an error that must be told also to who pressed ^C.
type errLeft string

func (e errLeft) Error() string { return string(e) }

// runSurvey listens to the channels and advises one of 1, 6 and 11. It needs no
// daemon, but the radio for itself.
func runSurvey(ctx context.Context, c *call, fs *flag.FlagSet, args []string) (int, error) {
	file := fs.String("config", defaultConfig, "")
	name := fs.String("network", "", "")
	interrupt := fs.Bool("interrupt", false, "")
	if _, err := parse(fs, args, 0); err != nil {
		return exitNoAnswer, err
	}
	cfg, err := config.Load(*file)
	if err != nil {
		return exitNoAnswer, err
	}
	n, err := radioOf(cfg, *name)
	if err != nil {
		return exitNoAnswer, err
	}
	if os.Geteuid() != 0 {
		return exitNoAnswer, errors.New("a survey takes the radio for itself: use sudo")
	}
	// A terminal that is closed and a pipe that ends are a ^C, too: the radio must be
	// given back.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	kernel, err := openKernel()
	if err != nil {
		return exitNoAnswer, err
	}
	defer kernel.Close()
	s := &survey{call: c, cfg: cfg, file: *file, network: n, interrupt: *interrupt,
		rig: rig{ether: kernel, link: setLink, program: program}}
	return s.run(ctx, time.Now())
}

// radioOf finds the network with the radio: the one that is named, or the only one.
func radioOf(cfg *config.Config, name string) (config.Network, error) {
	var with []config.Network
	var names []string
	for _, n := range cfg.Networks {
		if n.Radio != nil {
			with, names = append(with, n), append(names, n.Name)
		}
	}
	all := strings.Join(names, ", ")
	switch {
	case len(with) == 0:
		return config.Network{}, errors.New("no network of this configuration has a radio of the box's own: a survey has nothing to listen with")
	case name == "" && len(with) > 1:
		return config.Network{}, errUsage("say with the radio of which network, like -network " + names[0] + "; there are " + all)
	case name == "":
		return with[0], nil
	}
	for _, n := range with {
		if n.Name == name {
			return n, nil
		}
	}
	return config.Network{}, errUsage(fmt.Sprintf("no network with a radio is named %q; there are %s", name, all))
}

// run is the whole survey: it listens, gives the radio back, and tells what it found.
func (s *survey) run(ctx context.Context, now time.Time) (int, error) {
	h, back, err := s.listen(ctx)
	if err != nil {
		return exitNoAnswer, err
	}
	found := s.conclude(h, now)
	found.Radio = back
	if s.json {
		return attention(found.well()), s.encode(found)
	}
	s.page().showSurvey(found, s.file)
	return attention(found.well()), nil
}

// What became of the radio after a survey.
const (
	radioWasFree = "was free"
	radioIsBack  = "serves again"
)

// listen takes the radio, listens, and gives it back, also when ctx is done or
// something fails on the way. Back says what became of it.
func (s *survey) listen(ctx context.Context) (h *gathered, back string, err error) {
	ifi, err := s.find()
	if err != nil {
		return nil, "", err
	}
	serving := s.serving(ctx)
	switch {
	case (serving || beaconing(ifi)) && !s.interrupt:
		return nil, "", fmt.Errorf("the radio %s serves the chargers of %s. chargegate survey -interrupt stops it for half a minute, two at most: the chargers lose their Wi-Fi for so long and come back by themselves, conversations live on where they can", ifi.Name, s.network.Name)
	case !serving && beaconing(ifi):
		return nil, "", fmt.Errorf("the radio %s is an access point, and not that of %s: stop what else uses it first", ifi.Name, s.unit())
	case serving:
		s.progress("Stopping the radio of %s; its chargers lose their Wi-Fi for about half a minute.", s.network.Name)
		give, refused := s.take(ctx)
		if refused != nil {
			return nil, "", refused
		}
		defer func() {
			var lost error
			if back, lost = give(); lost != nil {
				err = lost // before all else: chargers have no Wi-Fi
			}
		}()
	}
	h, err = s.hear(ctx)
	return h, radioWasFree, err
}

// hear makes the radio a listener and measures with it.
func (s *survey) hear(ctx context.Context) (*gathered, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, listenWithin, errors.New("it took too long"))
	defer cancel()
	ifi, err := s.find()
	if err != nil {
		return nil, err
	}
	restore, err := s.ready(ctx, ifi)
	if err != nil {
		return nil, err
	}
	defer restore()
	return s.measure(ctx, ifi)
}

// find looks for the radio's interface.
func (s *survey) find() (*wifi.Interface, error) {
	ifis, err := s.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("listing the radios: %w", err)
	}
	for _, ifi := range ifis {
		if ifi.Name == s.network.Interface {
			return ifi, nil
		}
	}
	return nil, fmt.Errorf("no wireless interface is named %s: is the adapter plugged in? The command iw dev lists the radios there are", s.network.Interface)
}

// beaconing reports whether an interface is an access point that sends.
func beaconing(ifi *wifi.Interface) bool {
	return ifi.Type == wifi.InterfaceTypeAP && ifi.Frequency > 0
}

// progress tells what goes on, unless a script reads.
func (s *survey) progress(format string, args ...any) {
	if !s.json {
		fmt.Fprintln(s, s.in(faint, s.wrap(safe(fmt.Sprintf(format, args...)), 0)))
	}
}

// measure listens to all channels a few times.
func (s *survey) measure(ctx context.Context, ifi *wifi.Interface) (*gathered, error) {
	h := newGathered(time.Now())
	h.count(s.counts(ifi), 0)
	for n := 1; n <= passes; n++ {
		began := time.Now()
		err := s.Scan(ctx, ifi)
		var all []*wifi.BSS
		if err == nil {
			all, err = s.AccessPoints(ifi)
		}
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("the survey has ended early: %w", context.Cause(ctx))
		case err != nil:
			h.failed, h.problem = h.failed+1, scanProblem(err)
			s.progress("%d of %d: nothing was heard (%s)", n, passes, h.problem)
		default:
			took := time.Since(began)
			h.take(all, time.Since(h.began))
			h.count(s.counts(ifi), took)
			s.progress("%d of %d: %s heard", n, passes, count(len(h.networks), "network"))
		}
		if n < passes && !rest(ctx, apart) {
			return nil, fmt.Errorf("the survey has ended early: %w", context.Cause(ctx))
		}
	}
	if h.failed == passes {
		return nil, fmt.Errorf("the radio %s cannot listen: %s", ifi.Name, h.problem)
	}
	return h, nil
}

// rest waits, and reports whether there is still time.
func rest(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// counts are the counters of the channels that chargers can use. A driver that
// counts nothing has none.
func (s *survey) counts(ifi *wifi.Interface) map[int]air.Count {
	infos, err := s.SurveyInfo(ifi)
	if err != nil {
		return nil
	}
	out := map[int]air.Count{}
	for _, in := range infos {
		if in == nil {
			continue
		}
		if channel := air.Channel(in.Frequency); channel >= air.First && channel <= air.Last {
			out[channel] = air.Count{Time: in.ChannelTime, Busy: in.ChannelTimeBusy, Own: in.ChannelTimeTx + in.ChannelTimeBssRx}
		}
	}
	return out
}

// unit is what runs the radio.
func (s *survey) unit() string { return "chargegate-radio@" + s.network.Name + ".service" }

// guard is what systemd starts the radio again with when the survey does not.
func (s *survey) guard() string { return "chargegate-survey-" + s.network.Name }

// serving reports whether systemd runs the radio. Where there is no systemd it does
// not.
func (s *survey) serving(ctx context.Context) bool {
	state, err := s.program(ctx, "systemctl", "show", "--property=ActiveState", "--value", s.unit())
	if err != nil {
		return false
	}
	state = strings.TrimSpace(state)
	return state != "inactive" && state != "failed" && state != ""
}

// take stops the radio's unit. Before that it lets systemd promise to start it
// again, so that it comes back also when this process is killed.
func (s *survey) take(ctx context.Context) (give func() (string, error), err error) {
	_, err = s.program(ctx, "systemd-run", "--quiet", "--collect", "--unit="+s.guard(), "--on-active="+rescue.String(),
		"--timer-property=AccuracySec=1s", "systemctl", "--no-block", "start", s.unit())
	if err != nil {
		return nil, fmt.Errorf("the radio is left alone: systemd does not promise to start it again (%w); is another survey under way?", err)
	}
	if _, err = s.program(ctx, "systemctl", "stop", s.unit()); err != nil {
		if _, lost := s.give(); lost != nil {
			return nil, lost
		}
		return nil, fmt.Errorf("the radio could not be stopped, and serves: %w", err)
	}
	return s.give, nil
}

// give starts the radio's unit and waits for its beacons. It does so also after ^C,
// when nothing else is waited for any more. The unit's start is not waited for: it
// lasts for as long as there is no daemon.
func (s *survey) give() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), returnWithin)
	defer cancel()
	s.progress("Starting the radio of %s again.", s.network.Name)
	if _, err := s.program(ctx, "systemctl", "--no-block", "start", s.unit()); err != nil {
		return "", errLeft(fmt.Sprintf("the radio of %s could not be started again (%s). systemd tries it once more within %s; do it now with: sudo systemctl start %s",
			s.network.Name, err, lasting(rescue), s.unit()))
	}
	// What is left of the promise does no harm: it would start what runs.
	_, _ = s.program(ctx, "systemctl", "stop", s.guard()+".timer")
	for rest(ctx, 100*time.Millisecond) {
		if ifi, err := s.find(); err == nil && beaconing(ifi) {
			s.progress("The radio of %s serves again.", s.network.Name)
			return radioIsBack, nil
		}
	}
	return "", errLeft(fmt.Sprintf("the radio of %s was started again and is no access point yet. Run: sudo systemctl status %s, and read the last lines of its log", s.network.Name, s.unit()))
}
