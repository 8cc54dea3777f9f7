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
		Text:    "{CHARGER} has been without the cloud for {SINCE}; what is missing: {STAGE}",
		Explain: "The charger's last conversation with the cloud ended, and no other has begun for five minutes, though a healthy charger calls again after 10 s to 4 minutes. In a load-balanced installation it goes on charging offline after six minutes (F-6).",
		Advice:  "Run: sudo chargegate charger {CHARGER}. It says what to do.",
	}
	ChargersOffline = &Kind{
		ID: "chargers-offline", Level: Warning,
		Text:    "{COUNT} chargers have been without the cloud for five minutes: {NAMES}",
		Explain: "Several chargers lost the cloud together and none of them is back. That points to something they share: their power, an access point, or the uplink of this box.",
		Advice:  "Run: sudo chargegate status. If most stand at wifi, look at the power of the chargers and at the radio; if they stand at cloud, at the uplink.",
	}
	ChargerAway = &Kind{
		ID: "charger-away", Level: Info,
		Text:    "{CHARGER} is one of those without the cloud for {SINCE}; what is missing: {STAGE}",
		Explain: "The same as charger-offline, for a charger that stays away together with others; chargers-offline is the line for all of them.",
	}
	ChargersMissing = &Kind{
		ID: "chargers-missing", Level: Warning,
		Text:    "{COUNT} of {OF} chargers have not come online since the start {SINCE} ago: {NAMES}",
		Explain: "After a power cut chargers are back within a minute or two. These are in the inventory and have not had a conversation with the cloud since the daemon started.",
		Advice:  "Run: sudo chargegate status. It says for each what is missing. One that is not wanted on the Wi-Fi (4G or PLC, Z-15) may be taken out of the inventory.",
	}
	InventoryLoaded = &Kind{
		ID: "inventory-loaded", Level: Info,
		Text:    "the inventory names {CHARGERS}",
		Explain: "chargers.csv was read. Chargers in it are called by their parking space in every line.",
	}
	InventoryKept = &Kind{
		ID: "inventory-kept", Level: Warning,
		Text:    "{FILE} names no charger any more; the inventory from before stays in force, with {CHARGERS}",
		Explain: "The daemon was asked to read its configuration again, and chargers.csv is gone, empty or without a single usable line. The lines before this one say what is wrong with it. Chargers keep the names they had.",
		Advice:  "Mend the file (sudo chargegated -check says every line), then run: sudo systemctl reload chargegated. To be without an inventory, remove the line inventory from the configuration.",
	}
	InventoryEmpty = &Kind{
		ID: "inventory-empty", Level: Warning,
		Text:    "{FILE} names no charger; each is called by its MAC address",
		Explain: "The configuration has an inventory, and it could not be read or holds no usable line. Chargers work all the same.",
		Advice:  "Write one line for each charger below the header, like 60:15:92:41:00:07,P1-07, and run: sudo systemctl reload chargegated. sudo chargegated -check says what is wrong.",
	}
	InventoryFault = &Kind{
		ID: "inventory-fault", Level: Warning,
		Text:    "the inventory has a fault: {ERROR}",
		Explain: "A line of chargers.csv, or the address in it, could not be used. The other lines are in force. A charger whose address alone has a fault keeps its name and gets any free address.",
		Advice:  "Mend the line named and run: sudo systemctl reload chargegated.",
	}
	InventoryPoolSmall = &Kind{
		ID: "inventory-pool-small", Level: Warning,
		Text:    "network {NETWORK} has too few addresses: {LEFT} for {CHARGERS} chargers that have none of their own",
		Explain: "The pool is as large as the chargers of the [[network]] ask for (Z-5), the inventory names more, and the addresses that it keeps for single chargers inside of the pool are not for the others.",
		Advice:  "Raise chargers of this [[network]] to what is there, then run: sudo systemctl restart chargegate-prepare.",
	}
	InventoryStrangersSmall = &Kind{
		ID: "inventory-strangers-small", Level: Warning,
		Text:    "network {NETWORK} has {LEFT} of {OF} addresses left for devices that are not in the inventory; the others are kept for chargers",
		Explain: "A new charger that is not in the inventory yet gets an address out of a small range of its own, so that strangers never take the chargers' (Z-5). The column address of chargers.csv keeps most of that range for others.",
		Advice:  "Choose addresses outside of that range (sudo chargegate plan shows it) and run: sudo systemctl reload chargegated.",
	}
	InventoryNetworkAuto = &Kind{
		ID: "inventory-network-auto", Level: Warning,
		Text:    "{NETWORK}: chargers.csv keeps {ADDRESSES}, and the network's own is \"auto\": it gives way when the uplink wants the same subnet, and the list is wrong then",
		Explain: "With address = \"auto\" the network's subnet is chosen at each start, so that it overlaps nothing on the uplink. The addresses of the column address are written out and do not move with it: those outside of the new subnet are faults then, and their chargers get any free address.",
		Advice:  "Write address = \"{ADDRESS}\" for this network, then: sudo systemctl restart chargegate-prepare.",
	}
)

var chargerKinds = []*Kind{ChargerOnline, ChargerBack, ChargerOffline, ChargersOffline, ChargerAway, ChargersMissing, InventoryLoaded, InventoryKept, InventoryEmpty, InventoryFault, InventoryPoolSmall, InventoryStrangersSmall, InventoryNetworkAuto}
