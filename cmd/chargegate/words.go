package main

import (
	"fmt"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/status"
)

// ago writes an age as a technician would say it.
func ago(age *status.Seconds) string {
	if age == nil {
		return "never"
	}
	if d := age.Duration(); d >= time.Second {
		return lasting(d) + " ago"
	}
	return "now"
}

// lasting writes a duration with the two largest units at most.
func lasting(d time.Duration) string {
	s := int(d / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 10*60 && s%60 != 0:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s < 3600:
		return fmt.Sprintf("%d min", s/60)
	case s < 24*3600 && s/60%60 != 0:
		return fmt.Sprintf("%d h %d min", s/3600, s/60%60)
	case s < 24*3600:
		return fmt.Sprintf("%d h", s/3600)
	case s/3600%24 != 0:
		return fmt.Sprintf("%d d %d h", s/86400, s/3600%24)
	}
	return fmt.Sprintf("%d d", s/86400)
}

// volume writes a number of bytes in decimal units, as mobile contracts do.
func volume(bytes int64) string {
	switch {
	case bytes < 1000:
		return fmt.Sprintf("%d B", bytes)
	case bytes < 999_950:
		return fmt.Sprintf("%.1f kB", float64(bytes)/1e3)
	case bytes < 999_950_000:
		return fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(bytes)/1e9)
}

// traffic is volume, and nothing for nothing.
func traffic(bytes int64) string {
	if bytes == 0 {
		return ""
	}
	return volume(bytes)
}

// stageCell paints a stage: green at the top, red at the bottom.
func stageCell(s charger.Stage) cell {
	switch s {
	case charger.OK:
		return cell{string(s), green}
	case charger.Wifi:
		return cell{string(s), red}
	}
	return cell{safe(string(s)), yellow}
}

// signalCell is a signal, with the word for one that is too weak: absent where there
// is no radio, "?" where it is not known (F-11).
func signalCell(c status.Charger) cell {
	signal := c.Signal
	if c.Median != 0 {
		signal = c.Median
	}
	switch {
	case signal == 0 && c.Grade == "":
		return cell{}
	case signal == 0:
		return cell{"?", faint}
	}
	text := fmt.Sprintf("%d dBm", signal)
	switch c.Grade {
	case "weak":
		return cell{text + " weak", yellow}
	case "below minimum":
		return cell{text + " below min", red}
	case "critical":
		return cell{text + " critical", red}
	}
	return cell{text: text}
}

// addressText is an address, or nothing for none.
func addressText(c status.Charger) string {
	if !c.Address.IsValid() {
		return ""
	}
	return c.Address.String()
}

// reservedText is the address that the inventory keeps for a charger, or nothing
// for none.
func reservedText(c status.Charger) string {
	switch {
	case !c.Reserved.IsValid():
		return ""
	case c.Address.IsValid() && c.Address != c.Reserved:
		return c.Reserved.String() + "; it still has another one, until it asks anew"
	}
	return c.Reserved.String()
}

// clock writes a moment: the time of day, and the day unless it is today.
func clock(at, now time.Time) string {
	at, now = at.Local(), now.Local()
	if at.YearDay() == now.YearDay() && at.Year() == now.Year() {
		return at.Format("15:04:05")
	}
	return at.Format("2006-01-02 15:04:05")
}
