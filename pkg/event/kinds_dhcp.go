package event

// What the dhcp room says.
var (
	LeaseGranted = &Kind{
		ID: "dhcp-lease-granted", Level: Info,
		Text:    "{CHARGER} was given {IP} for {LEASE}",
		Explain: "The device has a new address, and that is on disk: it gets the same one from now on, also after a power cut.",
		Every:   minute,
	}
	LeaseKept = &Kind{
		ID: "dhcp-lease-kept", Level: Info,
		Text:    "{CHARGER} is back and has {IP} again for {LEASE}",
		Explain: "A device that already has an address asked for one as if it had just started, and was given the same one.",
		Every:   minute,
	}
	LeaseRenewed = &Kind{
		ID: "dhcp-lease-renewed", Level: Debug,
		Text:    "{CHARGER} renewed {IP} for {LEASE}",
		Explain: "The device goes on using its address. That is done after half the lease and costs no write to the disk.",
		Every:   minute,
	}
	LeaseOffered = &Kind{
		ID: "dhcp-lease-offered", Level: Debug,
		Text:    "{CHARGER} asked for an address and was offered {IP}",
		Explain: "The address is kept for the device for one minute; it has to ask for it to be given it.",
		Every:   minute,
	}
	LeaseReleased = &Kind{
		ID: "dhcp-lease-released", Level: Info,
		Text:    "{CHARGER} gave {IP} back",
		Explain: "The device says that it does not need its address any more, as some do when they are switched off.",
		Every:   minute,
	}
	LeaseDeclined = &Kind{
		ID: "dhcp-lease-declined", Level: Warning,
		Text:    "{CHARGER} says that {IP} is used by {OTHER}; for an hour nobody gets that address who can have another",
		Explain: "Before it uses an address, a charger asks the network whether somebody else answers for it. It says that somebody did: a device with a fixed address, or an access point that answers in the name of others. Some chargers never ask again after that (F-2).",
		Advice:  "Look for a device with a fixed address on this network and remove it; dhcp-address-in-use names it once it answers. In an external access point, switch off proxy ARP. Then switch the charger's power off and on.",
	}
	DeclineIgnored = &Kind{
		ID: "dhcp-decline-ignored", Level: Warning,
		Text:    "{CHARGER} has refused one address after the other within an hour, lastly {IP}, as used by another device; it is not believed any more",
		Explain: "A device may refuse three addresses in an hour. One that refuses more would take them away from all others, whether it means to or is misled by something that answers for every address.",
		Advice:  "In an external access point, switch off proxy ARP (some call it ARP suppression), and leave client isolation on; then switch the charger's power off and on. If it is not a charger, remove the device, or change the password of this Wi-Fi.",
		Every:   hour,
	}
	BindingsTooMany = &Kind{
		ID: "dhcp-too-many-addresses", Level: Warning,
		Text:    "{CHARGER} asks for one new address after the other and gets no more for now",
		Explain: "Every new address is written to the disk. A device gets a few in a minute, far more than one needs that starts again and again; renewing the address that it has is not counted.",
		Advice:  "If it is a charger, switch its power off and on. If not, remove the device, or change the password of this Wi-Fi.",
		Every:   hour,
	}
	SenderForged = &Kind{
		ID: "dhcp-sender-forged", Level: Warning,
		Text:    "{CHARGER}: somebody at {SENDER} speaks in its name",
		Explain: "A request about this device's address came from the hardware address of another device. It was dropped: it could take the address away. A repeater that writes its own address on what it passes on does that, too; devices behind one get no address.",
		Advice:  "Find the device with that hardware address and remove it, or change the password of this Wi-Fi. If it is a repeater, replace it by an access point on a cable, or one that bridges (WDS).",
		Every:   hour,
	}
	RelayUnknown = &Kind{
		ID: "dhcp-relay-unknown", Level: Warning,
		Text:    "{NETWORK}: {CHARGER} passes on requests of other devices as a relay agent, which the configuration does not name; they are dropped",
		Explain: "A relay agent speaks for others, so a device that pretends to be one could take any charger's address away. Only those are believed whose address stands under relays of their network.",
		Advice:  "If it is an access point or a switch of yours, switch its DHCP relay off: chargers reach this box without. If it must stay, write its address under relays of this network, and restart. Anything else: find the device with the MAC address {MAC} and take it off the network.",
		Every:   hour, Most: 30,
	}
	ChargerElsewhere = &Kind{
		ID: "dhcp-charger-elsewhere", Level: Warning,
		Text:    "{NETWORK}: a device asks with the MAC address of {NAME}, which the inventory has on {HOME}; here it is a stranger",
		Explain: "A MAC address is easily copied, so a charger gets a charger's address on its own network only. Here the device gets one of those for unknown devices, and works.",
		Advice:  "If the charger is on {NETWORK} now, correct its row in chargers.csv and run: sudo systemctl reload chargegated. If it is still on {HOME}, find out what this device is, or change the password of this Wi-Fi.",
		Every:   hour,
	}
	LeaseRefused = &Kind{
		ID: "dhcp-request-refused", Level: Info,
		Text:    "{CHARGER} may not have {IP}: {REASON}; it was told to ask anew",
		Explain: "The device asked for an address that it may not use here, mostly one from another network or from before a change of the configuration. It asks anew at once and gets a right one.",
		Every:   minute,
	}
	LeaseElsewhere = &Kind{
		ID: "dhcp-other-server-chosen", Level: Warning,
		Text:    "{CHARGER} takes its address from another DHCP server, {SERVER}",
		Explain: "A device on this network answered the offer of a DHCP server that is not this box. Devices that follow it bypass the gateway and do not reach the cloud.",
		Advice:  "dhcp-rogue-server names its MAC address within ten minutes: switch that device's DHCP server off. Then switch this charger's power off and on.",
		Every:   hour, Per: []string{"SERVER"},
	}
	PoolFilling = &Kind{
		ID: "dhcp-pool-filling", Level: Warning,
		Text:    "{NETWORK}: {USED} of {SIZE} addresses for chargers are given away",
		Explain: "More than 80 % of the network's addresses are in use.",
		Advice:  "Compare with the number of chargers that are really there. If there are more than the configuration says, set the right number for this network under chargers, and restart.",
	}
	PoolNearlyFull = &Kind{
		ID: "dhcp-pool-nearly-full", Level: Error,
		Text:    "{NETWORK}: {USED} of {SIZE} addresses for chargers are given away; soon new ones get none",
		Explain: "More than 95 % of the network's addresses are in use. Chargers that have an address keep it.",
		Advice:  "Set the real number of chargers for this network under chargers, and restart. If there are not that many chargers, find out which devices are on this network: sudo chargegate chargers.",
	}
	PoolRecovered = &Kind{
		ID: "dhcp-pool-recovered", Level: Info,
		Text:    "{NETWORK}: enough addresses are free again, {USED} of {SIZE} are given away",
		Explain: "Less than 75 % of the network's addresses are in use.",
	}
	PoolExhausted = &Kind{
		ID: "dhcp-pool-exhausted", Level: Error,
		Text:    "{CHARGER} gets no address: all of {NETWORK} are given away",
		Explain: "Every address for chargers is promised to somebody, or was offered within the last minute. An address in quarantine after a conflict would have been given.",
		Advice:  "Set the real number of chargers for this network under chargers, and restart.",
		Every:   10 * minute,
	}
	StrangersExhausted = &Kind{
		ID: "dhcp-strangers-exhausted", Level: Warning,
		Text:    "{CHARGER} is not in the inventory and gets no address: those for unknown devices on {NETWORK} are given away",
		Explain: "Devices that are not in chargers.csv share a small range of addresses, so that they can never take a charger's.",
		Advice:  "If it is a charger, enter it in chargers.csv and run: sudo systemctl reload chargegated. If not, change the password of this Wi-Fi.",
		Every:   10 * minute,
	}
	LeaseStorageFailed = &Kind{
		ID: "dhcp-storage-failed", Level: Error,
		Text:    "new addresses cannot be written to the disk: {ERROR}",
		Explain: "Everybody goes on being served from memory, new devices too. What is given away from now on is forgotten at the next restart or power cut, and might then be given to somebody else as well.",
		Advice:  "Look whether the disk is full (df -h) or was made read-only after a fault (sudo dmesg); an SD card that does that should be replaced.",
	}
	LeaseStorageRecovered = &Kind{
		ID: "dhcp-storage-recovered", Level: Info,
		Text:    "addresses are written to the disk again; nothing was lost",
		Explain: "Everything that was given away while the disk could not be written has been written now.",
	}
	LeaseStorageUntidy = &Kind{
		ID: "dhcp-storage-untidy", Level: Warning,
		Text:    "the file of addresses cannot be shortened: {ERROR}",
		Explain: "New addresses are still written, but the file they are written to only grows.",
		Advice:  "Look whether the disk is full (df -h) or was made read-only after a fault (sudo dmesg).",
		Every:   hour,
	}
	LeasesLoaded = &Kind{
		ID: "dhcp-leases-loaded", Level: Info,
		Text:    "{COUNT} addresses are known from before",
		Explain: "The addresses that were given away before the start were read. Each is good for one whole lease from now on.",
	}
	LeasesDropped = &Kind{
		ID: "dhcp-leases-dropped", Level: Warning,
		Text:    "{COUNT} changes from before were forgotten: their addresses are in none of the networks any more",
		Explain: "The networks of the configuration are others than when these addresses were given away. Their owners are told to ask anew.",
		Advice:  "If no network was changed on purpose, put address and chargers of each network back to what they were, and restart.",
	}
	LeaseFileDamaged = &Kind{
		ID: "dhcp-lease-file-damaged", Level: Error,
		Text:    "the file {FILE} is damaged: {ERROR}",
		Explain: "A file of addresses holds what was never written. A power cut does not do that; a worn SD card does. Whatever could be read is in force; the file is kept beside the others with the ending .damaged.",
		Advice:  "Replace the SD card soon.",
	}
	DHCPInterfaceMissing = &Kind{
		ID: "dhcp-interface-missing", Level: Warning,
		Text:    "{NETWORK}: there is no interface {INTERFACE}; addresses are given as soon as it appears",
		Explain: "The interface of this network does not exist, because its radio is not plugged in, its driver is not loaded, or hostapd is just starting anew.",
		Advice:  "If dhcp-interface-found does not follow within a minute, check that the radio is plugged in: ip link. The name must be the one in the configuration.",
	}
	DHCPInterfaceFound = &Kind{
		ID: "dhcp-interface-found", Level: Info,
		Text:    "{NETWORK}: {INTERFACE} is there; addresses are given on it",
		Explain: "The interface has appeared, or was made anew, and is being listened on.",
	}
	DHCPInterfaceFailed = &Kind{
		ID: "dhcp-interface-failed", Level: Error,
		Text:    "{NETWORK}: cannot listen on {INTERFACE}: {ERROR}",
		Explain: "The interface is there but its sockets cannot be had. It is tried again every second.",
		Advice:  "Look for another DHCP server on this machine: sudo ss -lunp sport = :67.",
		Every:   10 * minute,
	}
	AddressClaimed = &Kind{
		ID: "dhcp-address-claimed", Level: Warning,
		Text:    "{CHARGER} claims {OWNER}'s address {ADDRESS}",
		Explain: "A device said by ARP that the address is its own, while this box leased it to another. What is meant for the one may now reach the other instead, and what the other does is written down under the one's name. It happens with a device that has a fixed address, with one that wants to be taken for another, and where a Wi-Fi repeater puts its own MAC address on what its clients send.",
		Advice:  "Find the device by its MAC address {MAC}. A charger with a fixed address: set it to DHCP and switch its power off and on. Anything else: take it off the network, and change the passphrase of the Wi-Fi.",
		Every:   hour, Per: []string{"OWNER"}, Most: 30,
	}
	GatewayClaimed = &Kind{
		ID: "dhcp-gateway-claimed", Level: Error,
		Text:    "{CHARGER} claims the gateway's own address {ADDRESS} in {NETWORK}",
		Explain: "A device said by ARP that the address of this box is its own. Chargers that believe it send their packets to that device and lose the cloud.",
		Advice:  "Find the device by its MAC address {MAC} and take it off the network. If it is a router or a second chargegate box, it has the same address as this one: one of the two needs another.",
		Every:   hour,
	}
	AddressInUse = &Kind{
		ID: "dhcp-address-in-use", Level: Warning,
		Text:    "{NETWORK}: {IP} is used by {CHARGER}, who does not have it from here; it is given to nobody",
		Explain: "A device answers for an address that this box would give to others. It has a fixed address, or one from another DHCP server. The address is left out for as long as somebody uses it, so no charger meets a conflict (F-2).",
		Advice:  "If this box was replaced or lost its disk less than a lease ago, and this is a charger: wait, it keeps the address when it renews. Otherwise find the device with the MAC address {MAC}. A charger with a fixed address: set it to DHCP and switch its power off and on. Anything else does not belong on this network.",
		Every:   hour, Per: []string{KeyIP}, Most: 30,
	}
	AddressRemembered = &Kind{
		ID: "dhcp-address-remembered", Level: Info,
		Text:    "{NETWORK}: {CHARGER} still has {IP}, which this box did not know of; it is kept for it",
		Explain: "A charger of the inventory uses an address that is not in this box's memory, as after its disk was replaced. Nobody else is given the address, and the charger keeps it when it renews.",
		Every:   day,
	}
	ProxyARP = &Kind{
		ID: "dhcp-proxy-arp", Level: Warning,
		Text:    "{NETWORK}: {CHARGER} says that it has {ADDRESS}, too; so many addresses are claimed that more are given out all the same",
		Explain: "One device answers for many addresses that it does not have from here, or many devices do for one each. An access point that answers in the name of others (proxy ARP) does that. A charger that is given such an address takes it for used, refuses it, and may never ask again (F-2).",
		Advice:  "In the external access point, switch off proxy ARP and whatever else answers in the name of its clients. Otherwise find the device with the MAC address {MAC} and take it off the network.",
		Every:   hour,
	}
	NeighbourFlood = &Kind{
		ID: "dhcp-neighbour-flood", Level: Warning,
		Text:    "{NETWORK}: more ARP arrives on {INTERFACE} than is looked at; the rest is only counted",
		Explain: "So that a flood costs no more than a little of the processor, only so many frames a second are looked at that say which address is whose. While it lasts nobody can tell which addresses are free; chargers are given addresses all the same.",
		Advice:  "Look for a loop in the cables or for a device that searches the network: unplug one after the other until it ends.",
		Every:   hour,
	}
	RogueServer = &Kind{
		ID: "dhcp-rogue-server", Level: Error,
		Text:    "{NETWORK}: there is another DHCP server, {SERVER} at {MAC}; chargers that listen to it do not reach the cloud",
		Explain: "A device on this network gives addresses as well. A charger takes whichever answer comes first; with the other's it has another router and another name server, and bypasses this box. It is mostly a router, an access point that was set up as one, or a second chargegate.",
		Advice:  "Find the device by its MAC address {MAC} and switch its DHCP server off. dhcp-rogue-server-gone follows within minutes. Then switch off and on the power of the chargers that stay away.",
		Every:   hour,
	}
	RogueServerGone = &Kind{
		ID: "dhcp-rogue-server-gone", Level: Info,
		Text:    "{NETWORK}: the other DHCP server, {SERVER} at {MAC}, is gone",
		Explain: "It was asked twice and did not answer.",
		Every:   minute,
	}
	AnotherChargegate = &Kind{
		ID: "dhcp-another-chargegate", Level: Error,
		Text:    "{NETWORK}: another chargegate gives addresses here, {SERVER} at {MAC}; this one gives none on this network",
		Explain: "Two boxes would give the same address to two chargers. The one that served first goes on, and so does one that has given addresses here before its restart; of two that start for the first time at once the one with the lower MAC address serves. This box looks every half minute whether the other is still there, and serves when it is gone.",
		Advice:  "One of the two boxes must go: unplug one from this network, or make their networks separate ones. If there is no second box, somebody pretends to be one: find the device with the MAC address {MAC}.",
	}
	ServingAgain = &Kind{
		ID: "dhcp-serving-again", Level: Info,
		Text:    "{NETWORK}: the other chargegate at {MAC} is gone; addresses are given here now",
		Explain: "The box that this one had stood down for did not answer twice.",
	}
	NoCarrier = &Kind{
		ID: "dhcp-no-carrier", Level: Warning,
		Text:    "{NETWORK}: {INTERFACE} has no carrier or is switched off; nobody on it can be reached",
		Explain: "The interface is there, but the cable is not plugged in, the device at its other end has no power, or the radio is not on the air.",
		Advice:  "Run: ip link show {INTERFACE}. Without UP between the < > it is switched off: sudo systemctl restart chargegate-prepare. Otherwise check the cable at both ends and the power of the access point. For a radio of this box: sudo systemctl status chargegate-radio@{NETWORK}.",
	}
	CarrierBack = &Kind{
		ID: "dhcp-carrier-back", Level: Info,
		Text:    "{NETWORK}: {INTERFACE} has a carrier again",
		Explain: "Whoever is on it can be reached.",
	}
	NoAddress = &Kind{
		ID: "dhcp-gateway-address-missing", Level: Error,
		Text:    "{NETWORK}: {INTERFACE} does not have the gateway's address {ADDRESS}; nobody is given an address",
		Explain: "A charger that was given an address now would find neither names nor the time nor the way to the cloud: all of that is at the gateway's address.",
		Advice:  "Look whether something else manages the interface, as NetworkManager does: ip address; networkctl. Then run: sudo systemctl restart chargegate-prepare.",
	}
	AddressBack = &Kind{
		ID: "dhcp-gateway-address-back", Level: Info,
		Text:    "{NETWORK}: {INTERFACE} has the gateway's address {ADDRESS}; addresses are given",
		Explain: "What was missing is there.",
	}
	DHCPBufferSmall = &Kind{
		ID: "dhcp-buffer-small", Level: Warning,
		Text:    "the receive buffer for addresses is {GOT} bytes instead of {WANTED}",
		Explain: "When the power comes back all chargers ask at once (F-1). What does not fit into the buffer is lost and asked for again seconds later.",
		Advice:  "Set net.core.rmem_max to {WANTED}, as the package's sysctl.d file does, and restart: sudo sysctl -w net.core.rmem_max={WANTED}.",
		Every:   day,
	}
	DHCPQueueFull = &Kind{
		ID: "dhcp-queue-full", Level: Warning,
		Text:    "{NETWORK}: more requests for addresses arrive than can be answered; some were dropped",
		Explain: "Thousands of requests are waiting. Devices ask again by themselves.",
		Advice:  "Nothing at once, after a power cut. If it lasts, a device floods the network: sudo chargegate chargers shows who was heard last.",
		Every:   minute,
	}
	DHCPPacketDropped = &Kind{
		ID: "dhcp-packet-dropped", Level: Debug,
		Text:    "a packet on {NETWORK} was not answered: {REASON}",
		Explain: "It is not a request that a DHCP server answers.",
		Every:   minute, Per: []string{"REASON"},
	}
	DHCPSendFailed = &Kind{
		ID: "dhcp-send-failed", Level: Warning,
		Text:    "{CHARGER} could not be answered on {NETWORK}: {ERROR}",
		Explain: "The answer about an address could not be sent. The device asks again by itself.",
		Advice:  "If it repeats, look at the interface of this network: ip -s link.",
		Every:   10 * minute,
	}
	DHCPSendFull = &Kind{
		ID: "dhcp-send-full", Level: Warning,
		Text:    "{NETWORK}: {INTERFACE} does not take answers about addresses as quickly as they are made; some were dropped",
		Explain: "Thousands of answers wait in the queue of the interface, mostly for one device that sleeps, or is out of reach, and lets itself be asked for all the same. Nobody waits behind it: what finds no room is dropped, and who is not answered asks again.",
		Advice:  "Nothing at once, after a power cut. If it lasts, look at the interface of this network, ip -s link, and at who asks without end: sudo chargegate chargers. net.core.wmem_max must be 4194304, as the package's sysctl.d file sets it.",
		Every:   hour,
	}
)

var dhcpKinds = []*Kind{
	LeaseGranted, LeaseKept, LeaseRenewed, LeaseOffered, LeaseReleased, LeaseDeclined, DeclineIgnored, BindingsTooMany, SenderForged, RelayUnknown, ChargerElsewhere,
	LeaseRefused, LeaseElsewhere, AddressClaimed, GatewayClaimed, AddressInUse, AddressRemembered, ProxyARP, NeighbourFlood,
	RogueServer, RogueServerGone, AnotherChargegate, ServingAgain, NoCarrier, CarrierBack, NoAddress, AddressBack,
	PoolFilling, PoolNearlyFull, PoolRecovered, PoolExhausted, StrangersExhausted,
	LeaseStorageFailed, LeaseStorageRecovered, LeaseStorageUntidy, LeasesLoaded, LeasesDropped, LeaseFileDamaged,
	DHCPInterfaceMissing, DHCPInterfaceFound, DHCPInterfaceFailed, DHCPBufferSmall, DHCPQueueFull, DHCPPacketDropped, DHCPSendFailed, DHCPSendFull,
}
