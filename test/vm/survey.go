package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// surveyScenarios are those of listening to the channels.
func surveyScenarios() []Scenario {
	return []Scenario{
		{Name: "survey", What: "survey hears the neighbours, advises the free channel, and gives the radio back, also after ^C", From: "booted", Limit: 200 * time.Second, Run: surveyed},
		{Name: "survey-followed", What: "what a survey advises works as it is printed", From: "booted", Limit: 150 * time.Second, Nightly: true, Run: surveyFollowed},
		{Name: "survey-killed", What: "a survey that is killed, or whose reader goes away, leaves a radio that serves", From: "booted", Limit: 200 * time.Second, Nightly: true, Run: surveyKilled},
	}
}

// neighbours gives the guest more radios, in a namespace of their own (they are not
// this box's), and makes them access points: on channels 1, 3 and 11, and one that
// hides its name.
const neighbours = `
systemctl stop chargegate-radio@P1
modprobe -r mac80211_hwsim && modprobe mac80211_hwsim radios=6
for i in $(seq 50); do test -e /sys/class/net/wlan5 && break; sleep 0.1; done
mkdir -p /run/neighbours
ip netns add street
neighbour() {
	printf 'interface=%s\nssid=%s\nchannel=%s\nhw_mode=g\nignore_broadcast_ssid=%s\n' "$1" "$2" "$3" "$4" > /run/neighbours/$1.conf
	iw phy $(cat /sys/class/net/$1/phy80211/name) set netns name street &&
	ip netns exec street hostapd -B /run/neighbours/$1.conf
}
neighbour wlan1 "Flat 1" 1 0 &&
neighbour wlan2 "Flat 3" 3 0 &&
neighbour wlan3 "Flat 11" 11 0 &&
neighbour wlan4 "Secret" 11 1
`

// heardOf is what a scenario wants to know of chargegate survey -json.
type heardOf struct {
	Radio    string
	Channels []struct {
		Channel, Networks int
		Busy              *float64
	}
	Neighbours []struct {
		SSID    string
		Channel int
		Signal  *int
		Twin    bool
	}
	Advice struct {
		Channel  int
		Measured bool
		Reason   string
	}
	Twins []string
}

// survey runs the command and reads its answer; it wants the exit code.
func (l *Lab) survey(code int, flags string) (h heardOf, err error) {
	out, err := l.Sh("chargegate survey -json %s 2>/run/complaint; code=$?; cat /run/complaint >&2; test $code = %d || { echo exit $code; exit 1; }", flags, code)
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal([]byte(out), &h); err != nil {
		return h, fmt.Errorf("reading the survey: %w\n%s", err, out)
	}
	return h, nil
}

// names are the networks that were heard, with their channels.
func (h heardOf) names() string {
	var all []string
	for _, n := range h.Neighbours {
		name := n.SSID
		if name == "" {
			name = "(hidden)"
		}
		signal := "?"
		if n.Signal != nil {
			signal = fmt.Sprint(*n.Signal)
		}
		all = append(all, fmt.Sprintf("%s on %d at %s", name, n.Channel, signal))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// radioServes waits until P1 sends, and wants no promise of a survey left.
func radioServes(l *Lab, when string) error {
	return l.UntilSh(20*time.Second, "the radio serves "+when,
		`systemctl -q is-active chargegate-radio@P1 && iw dev wlan0 info | grep -q 'channel 6' && test -z "$(systemctl list-units -q --all --plain 'chargegate-survey-*')"`)
}

func surveyed(l *Lab) error {
	if _, err := l.Sh("%s", neighbours); err != nil {
		return err
	}
	began := time.Now()
	h, err := l.survey(0, "")
	if err != nil {
		return err
	}
	l.Note("a free radio, in %s: %s; channel %d, because %s", round(time.Since(began)), h.names(), h.Advice.Channel, h.Advice.Reason)
	if want := "(hidden) on 11 at -30, Flat 1 on 1 at -30, Flat 11 on 11 at -30, Flat 3 on 3 at -30"; h.names() != want {
		return fmt.Errorf("heard %s, want %s", h.names(), want)
	}
	if h.Advice.Channel != 6 || !h.Advice.Measured || h.Radio != "was free" {
		return fmt.Errorf("%+v", h)
	}
	for _, c := range h.Channels { // mac80211_hwsim says of each visit that an eighth was busy
		if c.Busy == nil || *c.Busy < 0.10 || *c.Busy > 0.14 {
			return fmt.Errorf("channel %d was counted as %v", c.Channel, c.Busy)
		}
	}
	if out, err := l.Sh(`test "$(basename $(readlink /sys/class/net/wlan0/device/driver))" = mac80211_hwsim && iw dev wlan0 info | grep -q managed && ! ip link show wlan0 | grep -q UP,`); err != nil {
		return fmt.Errorf("the radio is not left as it was: %w\n%s", err, out)
	}
	if _, err := l.Sh("systemctl start chargegate-radio@P1"); err != nil {
		return err
	}
	if err := radioServes(l, "at first"); err != nil {
		return err
	}
	return surveyedInService(l)
}

// surveyedInService is the part with a radio that serves, and with an access point
// nearby that sends its name.
func surveyedInService(l *Lab) error {
	const invocation = "systemctl show --value -p InvocationID chargegate-radio@P1"
	// What the daemon asks each round needs no privilege.
	if _, err := l.Sh("setpriv --reuid=chargegate --clear-groups iw dev wlan0 survey dump"); err != nil {
		return err
	}
	before, err := l.Sh(invocation)
	if err != nil {
		return err
	}
	if out, err := l.Sh("chargegate survey; test $? = 2"); err != nil || !strings.Contains(out, "chargegate survey -interrupt stops it") {
		return fmt.Errorf("a radio that serves was not left alone: %w\n%s", err, out)
	}
	if after, err := l.Sh(invocation); err != nil || after != before {
		return fmt.Errorf("the radio was started again: %w", err)
	}
	if _, err := l.Sh(`sed 's/Flat 11/garage-p1/; s/wlan3/wlan5/' /run/neighbours/wlan3.conf > /run/neighbours/wlan5.conf &&
iw phy $(cat /sys/class/net/wlan5/phy80211/name) set netns name street && ip netns exec street hostapd -B /run/neighbours/wlan5.conf`); err != nil {
		return err
	}
	began := time.Now()
	h, err := l.survey(1, "-interrupt")
	if err != nil {
		return err
	}
	l.Note("a radio that served, in %s: %v", round(time.Since(began)), h.Twins)
	if len(h.Twins) != 1 || !strings.Contains(h.names(), "garage-p1 on 11") || h.Advice.Channel != 6 || h.Radio != "serves again" {
		return fmt.Errorf("%+v", h)
	}
	if err := radioServes(l, "after a survey"); err != nil {
		return err
	}
	began = time.Now()
	out, err := l.Sh("timeout --preserve-status -s INT 4 chargegate survey -interrupt; code=$?; test $code = 2 || { echo exit $code; exit 1; }")
	if err != nil {
		return err
	}
	l.Note("^C after 4 s: all was over after %s", round(time.Since(began)))
	if !strings.Contains(out, "The radio of P1 serves again.") || strings.Contains(out, "the air around") {
		return fmt.Errorf("^C did not end it: %s", out)
	}
	if err := radioServes(l, "after ^C"); err != nil {
		return err
	}
	// In service the daemon asks the same driver, which counts nothing then.
	if out, err := l.Sh("! journalctl -q -b -t chargegated EVENT=radio-channel-busy + EVENT=panic-recovered | grep ."); err != nil {
		return fmt.Errorf("the daemon says of the air: %s", out)
	}
	return nil
}

func surveyKilled(l *Lab) error {
	// Somebody who reads only the first lines, and a terminal that is closed.
	for _, end := range []string{
		"chargegate survey -interrupt | head -n 2",
		"timeout --preserve-status -s HUP 4 chargegate survey -interrupt; test $? = 2",
	} {
		out, err := l.Sh("%s", end)
		if err != nil {
			return err
		}
		if err := radioServes(l, "after: "+end+"\n"+out); err != nil {
			return err
		}
	}
	if _, err := l.Sh("timeout -s KILL 5 chargegate survey -interrupt; ! systemctl -q is-active chargegate-radio@P1"); err != nil {
		return fmt.Errorf("it was not killed in the middle: %w", err)
	}
	out, err := l.Sh("systemctl show --value -p NextElapseUSecMonotonic chargegate-survey-P1.timer | grep .")
	if err != nil {
		return fmt.Errorf("nobody promises to start the radio again: %w", err)
	}
	l.Note("after kill -9 systemd starts the radio %s after the boot", out)
	// The promise is four minutes long; this is what it does at their end.
	if _, err := l.Sh("systemctl start chargegate-survey-P1.service"); err != nil {
		return err
	}
	return l.UntilSh(20*time.Second, "the radio serves after kill -9", "systemctl -q is-active chargegate-radio@P1 && iw dev wlan0 info | grep -q 'channel 6'")
}

// restart is the command that the page prints.
var restart = regexp.MustCompile(`sudo (systemctl restart [^.]*)\.`)

func surveyFollowed(l *Lab) error {
	if _, err := l.Sh("%s", strings.NewReplacer(`"Flat 1" 1`, `"Flat 1" 6`, `"Flat 3" 3`, `"Flat 3" 5`).Replace(neighbours)); err != nil {
		return err
	}
	page, err := l.Sh("chargegate survey; test $? = 1")
	if err != nil {
		return err
	}
	page = strings.Join(strings.Fields(page), " ")
	do := restart.FindStringSubmatch(page)
	if do == nil || !strings.Contains(page, "Write channel = 1 for P1 in /etc/chargegate/chargegate.toml") {
		return errors.New(page)
	}
	if _, err := l.Sh("sed -i 's/^channel = 6/channel = 1/' /etc/chargegate/chargegate.toml && %s", do[1]); err != nil {
		return err
	}
	if err := l.UntilSh(30*time.Second, "the radio is on channel 1", "iw dev wlan0 info | grep -q 'channel 1 '"); err != nil {
		return err
	}
	_, err = l.survey(0, "-interrupt")
	return err
}
