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
	return attention(d.Stage == charger.OK), nil
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
		c.detail("signal", fmt.Sprintf("%d dBm, as this box hears it", st.Signal))
	default:
		c.detail("signal", fmt.Sprintf("%d dBm over five minutes, %d dBm last, as this box hears it: %s", st.Median, st.Signal, st.Grade))
	}
	text := fmt.Sprintf("last frame %s ago, %s sent again, %d lost", lasting(st.Inactive.Duration()), count(st.Retries, "frame"), st.Failed)
	if st.Connected > 0 {
		text = "joined " + lasting(st.Connected.Duration()) + " ago, " + text
	}
	if st.BitrateUp > 0 && st.BitrateDown > 0 {
		text += fmt.Sprintf(", %d Mbit/s up, %d down", st.BitrateUp/1e6, st.BitrateDown/1e6)
	}
	c.detail("Wi-Fi", text)
}

// detail prints one line, unless there is nothing to say.
func (c *call) detail(name, text string) {
	const indent = 13
	if text != "" {
		fmt.Fprintf(c, "  %s %s\n", c.in(faint, fmt.Sprintf("%-10s", name)), c.wrap(safe(text), indent))
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
