package event

import "time"

// Shorthands for Kind.Every.
const (
	minute = time.Minute
	hour   = time.Hour
	day    = 24 * time.Hour
)

// What is said of a charger as a whole: how far it has come.
var (
	ChargerOnline = &Kind{
		ID: "charger-online", Level: Info,
		Text:    "{CHARGER} is online: it talks with the cloud",
		Explain: "The charger holds a conversation with the Zaptec cloud on port 8883 and bytes went both ways.",
	}
	ChargerOffline = &Kind{
		ID: "charger-offline", Level: Warning,
		Text:    "{CHARGER} has lost the cloud; it has come as far as: {STAGE}",
		Explain: "The charger's last conversation with the cloud has ended. A charger reconnects by itself after 10 s or more; one reconnect a week is normal, because its password for the cloud lasts 7 days.",
		Advice:  "If charger-online does not follow within 5 minutes, run: chargegate charger {CHARGER}.",
		Every:   10 * minute,
	}
	InventoryLoaded = &Kind{
		ID: "inventory-loaded", Level: Info,
		Text:    "the inventory names {COUNT} chargers",
		Explain: "chargers.csv was read. Chargers in it are called by their parking space in every line.",
	}
	InventoryFault = &Kind{
		ID: "inventory-fault", Level: Warning,
		Text:    "the inventory has a fault: {ERROR}",
		Explain: "A line of chargers.csv could not be used. The other lines are in force.",
		Advice:  "Mend the line named and run: systemctl reload chargegated.",
	}
)

var chargerKinds = []*Kind{ChargerOnline, ChargerOffline, InventoryLoaded, InventoryFault}
