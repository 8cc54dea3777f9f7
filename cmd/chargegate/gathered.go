package main

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/mdlayher/wifi"

	"chargegate/pkg/air"
)

// gathered is what the passes of a survey have found. How many networks there can be
// the kernel bounds: it remembers a thousand.
type gathered struct {
	began    time.Time
	networks map[[6]byte]air.Neighbour
	unread   map[[6]byte]bool // sent what cannot be read: without a channel
	last     map[int]air.Count
	counted  map[int]air.Count
	failed   int    // passes in which nothing was heard
	problem  string // of the last of these
}

func newGathered(began time.Time) *gathered {
	return &gathered{began: began, networks: map[[6]byte]air.Neighbour{}, unread: map[[6]byte]bool{}, counted: map[int]air.Count{}}
}

// take takes the networks that the kernel knows, but for those that it has not
// heard since the survey began. Of each the loudest beacon counts.
func (h *gathered) take(all []*wifi.BSS, passed time.Duration) {
	for _, b := range all {
		if b == nil || len(b.BSSID) != 6 || b.LastSeen > passed {
			continue
		}
		bssid := [6]byte(b.BSSID)
		channel := air.Channel(b.Frequency)
		if b.Frequency == 0 {
			h.unread[bssid] = true
		}
		if channel == 0 {
			continue // 5 GHz, where no charger is (Z-1)
		}
		n := air.Neighbour{SSID: ssid(b.SSID), BSSID: bssid, Channel: channel, Signal: decibels(b.Signal)}
		was, again := h.networks[bssid]
		if again && (n.Signal == 0 || was.Signal != 0 && was.Signal >= n.Signal) {
			n.Signal, n.Channel = was.Signal, was.Channel
		}
		if n.SSID == "" {
			n.SSID = was.SSID
		}
		h.networks[bssid] = n
	}
}

// ssid is a network's name: empty where it is hidden, which some say with as many
// zeros as it has letters.
func ssid(sent string) string {
	if strings.Trim(sent, "\x00") == "" {
		return ""
	}
	return sent
}

// decibels is a signal in dBm of one in hundredths; 0 where there is none (drivers
// that tell per cent instead are not believed to mean dBm).
func decibels(hundredths int32) int {
	if hundredths >= 0 {
		return 0
	}
	return int(hundredths-50) / 100
}

// count takes the counters after a scan that took so long.
func (h *gathered) count(now map[int]air.Count, took time.Duration) {
	if h.last != nil {
		for channel, c := range now {
			h.counted[channel] = h.counted[channel].Plus(c.Visit(h.last[channel], took))
		}
	}
	h.last = now
}

// list is every network that was heard, the loudest first.
func (h *gathered) list() []air.Neighbour {
	var all []air.Neighbour
	for _, n := range h.networks {
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b air.Neighbour) int {
		return cmp.Or(cmp.Compare(loudness(b), loudness(a)), slices.Compare(a.BSSID[:], b.BSSID[:]))
	})
	return all
}

// loudness is a signal for sorting: not known comes last.
func loudness(n air.Neighbour) int {
	if n.Signal == 0 {
		return -1000
	}
	return n.Signal
}
