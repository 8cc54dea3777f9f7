package charger

import (
	"fmt"
	"time"
)

// patience is how long a charger may stand on one step before that is worth a
// sentence that asks somebody to act: the longest pause of a healthy charger is
// the back-off of its MQTT client, 180 s and a third of it.
const patience = 5 * time.Minute

// recent is how long a refusal or a failed dial stays the likely cause.
const recent = 15 * time.Minute

// settling is how long a charger may stand on one step before it counts as
// stuck: it waits 15 s for the time before it asks again.
const settling = 20 * time.Second

// advice is the one sentence for a charger that is stuck, or "" for one that
// is well or on its way.
func advice(s Status, now time.Time) string {
	if s.Stage == OK || s.Stage != Wifi && now.Sub(s.Since) < settling {
		return ""
	}
	switch s.Stage {
	case Wifi:
		return "Not seen on the network. Is it powered? In the app, is Communication mode set to Wi-Fi and not to 4G or PLC (Z-15)? Is the password right?"
	case DHCP:
		return "Is on the Wi-Fi but has no address. If that lasts a minute, switch its power off and on: after an address conflict a charger may never ask again (F-2)."
	}
	if s.Refused != "" && now.Sub(s.RefusedAt) < recent {
		return fmt.Sprintf("Was refused %s. If the charger needs it, add it under [[egress.allow]]; if not, find out what this device is.", s.Refused)
	}
	switch s.Stage {
	case DNS:
		return "Has an address but asks for no name. Give it a minute after power-up; then switch its power off and on."
	case Time:
		return "Knows the names but has not got the time: run chargegate doctor to see whether this box knows the time itself (Z-11)."
	}
	if s.Unreachable != "" && now.Sub(s.FailedAt) < recent {
		return fmt.Sprintf("%s could not be reached from here: check the uplink of this box.", s.Unreachable)
	}
	if s.Sessions > 0 {
		return "Has opened a conversation with the cloud, and the cloud has not answered yet."
	}
	if s.Connects > 0 && now.Sub(s.LastSeen) < patience {
		return "The cloud ends its conversations: is the charger activated in the portal? If so, give Zaptec its serial number."
	}
	return "Has everything it needs but does not call the cloud. Check in the app that it is set up and that Communication mode is Wi-Fi (Z-15)."
}
