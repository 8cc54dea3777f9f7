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
	ChargerBack = &Kind{
		ID: "charger-back", Level: Debug,
		Text:    "{CHARGER} talks with the cloud again, after {AFTER}",
		Explain: "The charger's conversation with the cloud ended and another one began soon. Once a week that is normal: its password for the cloud lasts 7 days.",
	}
	ChargerOffline = &Kind{
		ID: "charger-offline", Level: Warning,
		Text:    "{CHARGER} has been without the cloud for {SINCE}; it has come as far as: {STAGE}",
		Explain: "The charger's last conversation with the cloud ended, and no other has begun for five minutes, though a healthy charger calls again after 10 s to 4 minutes. In a load-balanced installation it goes on charging offline after six minutes (F-6).",
		Advice:  "Run: chargegate charger {CHARGER}. It says what is missing.",
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

var chargerKinds = []*Kind{ChargerOnline, ChargerBack, ChargerOffline, InventoryLoaded, InventoryFault}
