package charger

import (
	"fmt"
	"time"
)

// callsAgain is the longest pause of a healthy charger that has lost the cloud:
// the back-off of its MQTT client, 180 s and a third of it.
const callsAgain = 4 * time.Minute

// toldOff is how many conversations in a row must end within seconds before the
// cloud counts as the one that ends them.
const toldOff = 3

// recent is how long a refusal or a failed dial stays the likely cause.
const recent = 15 * time.Minute

// firmwareRecent is how long a refused name that may be the firmware's is worth a
// word: a charger that works does not ask for it often.
const firmwareRecent = 24 * time.Hour

// settling is how long a charger may stand on one step before it counts as
// stuck: it waits 15 s for the time before it asks again.
const settling = 20 * time.Second

// advice is the one sentence for a charger that is stuck, or "" for one that
// is well or on its way.
func advice(s Status, now time.Time) string {
	switch s.Stage {
	case OK:
		if s.Firmware != "" && now.Sub(s.FirmwareAt) < firmwareRecent {
			return fmt.Sprintf("Works, but was refused %s, where its firmware may come from now. If others ask for it too, or it belongs to Zaptec, add it under [[egress.allow]].", s.Firmware)
		}
		if s.Remembered {
			return remembered
		}
		return ""
	case Wifi:
		switch {
		case !s.Mistyped.IsZero() && now.Sub(s.Mistyped) < recent && !s.Mistyped.Before(s.TurnedAway):
			return "Tries to join with a wrong passphrase. Enter it again in the app, standing at the charger."
		case !s.TurnedAway.IsZero() && now.Sub(s.TurnedAway) < recent:
			return "Wants to join, and the radio has no room for it: look for strangers on it (chargegate chargers), or plan another radio."
		}
		return "Not seen on the network. Is it powered? In the app, is Communication mode set to Wi-Fi and not to 4G or PLC? Is the password right?"
	}
	// A cause that is known needs no waiting.
	switch {
	case s.Unreachable != "" && now.Sub(s.FailedAt) < recent:
		return fmt.Sprintf("Could not reach %s. It tries again by itself; chargegate doctor tells whether the uplink is at fault.", s.Unreachable)
	case s.Refused != "" && now.Sub(s.RefusedAt) < recent:
		return fmt.Sprintf("Was refused %s. If the charger needs it, add it under [[egress.allow]]; if not, find out what this device is.", s.Refused)
	case s.Cut >= toldOff && now.Sub(s.CutAt) < recent:
		return "The cloud ends its conversations within seconds: is the charger activated in the portal? If so, give Zaptec its serial number."
	case s.Remembered && s.Stage == DNS: // it has been on the network for long, and has no need to ask
		return remembered
	case now.Sub(s.Since) < settling:
		return ""
	}
	switch s.Stage {
	case DHCP:
		return "Is on the Wi-Fi but has no address. If that lasts a minute, switch its power off and on at the breaker: after an address conflict a charger may never ask again."
	case DNS:
		return "Has an address but asks for no name. Give it a minute after power-up; then switch its power off and on at the breaker."
	case Time:
		return "Knows the names but has not got the time: run chargegate doctor to see whether this box knows the time itself."
	}
	switch {
	case s.Sessions > 0 && s.Talked.Before(s.Since):
		return "Has opened a conversation with the cloud, and the cloud has not answered yet."
	case !s.Talked.IsZero() && now.Sub(s.Since) < callsAgain:
		return "Has lost the cloud and calls again by itself within 4 minutes."
	}
	return "Has everything it needs but does not call the cloud. Check in the app that it is set up and that Communication mode is Wi-Fi."
}

// remembered is the sentence for who uses an address that this box has forgotten.
// The address stands beside it, so that one sentence does for a whole garage.
const remembered = "Uses its address from before this box lost its memory. It keeps it when it renews; nothing to do."

// elsewhere is the sentence for who uses a charger's MAC on another network than
// the inventory says.
func elsewhere(c Charger, network string) string {
	return fmt.Sprintf("Has the MAC address of %s, which the inventory has on %s. If that charger is on %s now, correct its row; if not, find out what this device is.", c.Name, c.Network, network)
}
