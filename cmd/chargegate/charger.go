package main

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"strings"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/status"
)

func runCharger(ctx context.Context, c *call, fs *flag.FlagSet, args []string) (int, error) {
	rest, err := parse(fs, args, 1)
	if err != nil {
		return exitNoAnswer, err
	}
	var d status.ChargerDetail
	printed, err := c.get(ctx, "/v1/charger/"+url.PathEscape(rest[0]), &d, answerWithin)
	if err != nil {
		return exitNoAnswer, err
	}
	if !printed {
		c.showCharger(d)
	}
	return attention(d.Stage == charger.OK && !d.TooWeak()), nil
}

// showCharger prints everything about one charger: what it is, which step is
// missing, what is in its way, and what happened.
func (c *call) showCharger(d status.ChargerDetail) {
	stage := stageCell(d.Stage)
	lasts := ""
	if d.StageAge != nil {
		lasts = ", for " + lasting(d.StageAge.Duration())
	}
	fmt.Fprintf(c, "%s  %s%s\n", c.in(bold, safe(d.Name)), c.in(stage.paint, stage.text), lasts)
	if d.Advice != "" {
		lead := c.sign("↳ ", "> ")
		fmt.Fprintf(c, "  %s%s\n", lead, c.wrap(safe(d.Advice), 2+len([]rune(lead))))
	}
	c.detail("MAC", d.MAC.String())
	c.detail("serial", strings.TrimSpace(d.Serial+" "+d.Model))
	if !d.Known {
		c.detail("inventory", "it is not in it")
	}
	c.detail("network", d.Network)
	c.detail("address", addressText(d.Charger))
	c.detail("reserved", reservedText(d.Charger))
	c.detail("hostname", d.Hostname)
	c.detail("last seen", ago(d.LastSeenAge))
	c.detail("present", presentText(d))
	c.showStation(d)
	c.detail("cloud", cloudText(d.Status))
	c.detail("today", fmt.Sprintf("%s up, %s down", volume(d.UpToday), volume(d.DownToday)))
	c.detail("in all", fmt.Sprintf("%s up, %s down since the daemon started", volume(d.Up), volume(d.Down)))
	if d.Refused != "" {
		c.detail("refused", fmt.Sprintf("%s, %s", d.Refused, ago(d.RefusedAge)))
	}
	if d.Unreachable != "" {
		c.detail("unreached", fmt.Sprintf("%s, %s", d.Unreachable, ago(d.UnreachableAge)))
	}
	c.showSignals(d.Signals)
	c.showConversations(d)
	c.showVolume(d.Volume)
	if len(d.Events) > 0 {
		fmt.Fprintf(c, "\n%s\n", c.in(bold, "Last events"))
		now := time.Now()
		for _, e := range d.Events {
			c.showEvent(e, now, false)
		}
	}
}

// cloudText counts the conversations: with the cloud now, and with everybody since the
// daemon started. Those that it found when it did are not begun anew.
func cloudText(s charger.Status) string {
	text := fmt.Sprintf("%s open; %s begun since the daemon started", count(s.Sessions, "conversation"), count(s.Connects, "conversation"))
	if s.Resumed > 0 {
		text += fmt.Sprintf(", %d taken over from before", s.Resumed)
	}
	return text
}

// presentText says by which signs a charger counts as there.
func presentText(d status.ChargerDetail) string {
	if !d.Presence.Present {
		return "no, there is no sign of it"
	}
	var signs []string
	for _, s := range d.Signs {
		what := safe(s.By)
		switch s.By {
		case "radio":
			what = "heard on the Wi-Fi"
		case "arp":
			what = "its address is announced or used"
		case "cloud":
			what = "it talks with the cloud"
		}
		if s.Age.Duration() >= time.Minute { // what is fresh needs no age
			what += " (" + ago(&s.Age) + ")"
		}
		signs = append(signs, what)
	}
	return "yes: " + strings.Join(signs, ", ")
}

// showStation prints how the radio sees it. All of it is the uplink.
func (c *call) showStation(d status.ChargerDetail) {
	st := d.Station
	if st == nil {
		return
	}
	switch {
	case d.NoSignal:
		c.detail("signal", "this radio does not report it (F-11)")
	case st.Signal == 0:
		c.detail("signal", "not known yet")
	case st.Median == 0:
		c.detail("signal", fmt.Sprintf("%d dBm, as this box hears it: %s", st.Signal, tooEarly(st.Early)))
	default:
		c.detail("signal", signalText(d))
	}
	if d.SignalAdvice != "" {
		lead := c.sign("↳ ", "> ")
		fmt.Fprintf(c, "%*s%s%s\n", detailIndent, "", lead, c.wrap(safe(d.SignalAdvice), detailIndent+len([]rune(lead))))
	}
	again := count(st.Retries, "frame") + " sent again"
	if st.Resent != nil {
		again += fmt.Sprintf(" (%d %% of the tries of the last ten minutes)", *st.Resent)
	}
	text := fmt.Sprintf("last frame %s ago, %s, %d lost", lasting(st.Inactive.Duration()), again, st.Failed)
	if st.Connected > 0 {
		text = "joined " + lasting(st.Connected.Duration()) + " ago, " + text
	}
	if st.BitrateUp > 0 && st.BitrateDown > 0 {
		text += fmt.Sprintf(", %d Mbit/s up, %d down", st.BitrateUp/1e6, st.BitrateDown/1e6)
	}
	c.detail("Wi-Fi", text)
}

// tooEarly says when there will be a verdict.
func tooEarly(in status.Seconds) string {
	if in.Duration() < time.Second {
		return "too little was heard of it to judge yet"
	}
	return "too early to judge, in " + lasting(in.Duration())
}

// signalText says how a charger is heard and how that is judged.
func signalText(d status.ChargerDetail) string {
	st := d.Station
	over := ""
	if s := d.Signals; s != nil && s.Window > 0 {
		over = " over " + lasting(s.Window.Duration())
	}
	text := fmt.Sprintf("%d dBm%s, %d dBm last, as this box hears it: %s", st.Median, over, st.Signal, st.Grade)
	if st.GradeAge.Duration() >= time.Minute {
		text += ", for " + lasting(st.GradeAge.Duration())
	}
	if s := d.Signals; s != nil && s.UplinkOffset != 0 {
		text += fmt.Sprintf(" (%+d dB of uplink_offset_db are in it)", s.UplinkOffset)
	}
	return text
}

// detailIndent is where the text of a detail begins.
const detailIndent = 13

// detail prints one line, unless there is nothing to say.
func (c *call) detail(name, text string) {
	if text != "" {
		fmt.Fprintf(c, "  %s %s\n", c.in(faint, fmt.Sprintf("%-10s", name)), c.wrap(safe(text), detailIndent))
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
