package event

// What the radio room says of radios and of who is on them. What it says of signals
// stands in kinds_signal.go.
var (
	ChargerJoined = &Kind{
		ID: "charger-joined", Level: Info,
		Text:    "{CHARGER} has joined the Wi-Fi of {NETWORK} (signal in dBm: {SIGNAL})",
		Explain: "The radio has let a station through that was not there before: the handshake with the passphrase has succeeded. (Where a driver does not tell who is let through, whoever it lists counts.) Next it asks for an address, or has just done so: the box asks the radio a moment later. Of devices that the inventory does not name it is said only so often in an hour.",
		Every:   minute,
	}
	ChargerLeft = &Kind{
		ID: "charger-left", Level: Info,
		Text:    "{CHARGER} has left the Wi-Fi of {NETWORK} after {CONNECTED}: {REASON}",
		Explain: "The radio no longer lists the station or no longer lets it through, or has not heard it for ten minutes. Where one of the two said why, that is written with the code of IEEE 802.11, table 9-49; \"without a word\" is what a power cut looks like. Chargers come back by themselves; all of them leaving within seconds means a power cut or an access point that stopped.",
		Every:   minute,
	}
	RadioUnsupported = &Kind{
		ID: "radio-unsupported", Level: Warning,
		Text:    "no radio can be watched: this kernel has no nl80211 ({ERROR})",
		Explain: "The configuration has networks with a radio, but the kernel offers no wireless interface at all. Nobody's signal can be measured, and hostapd cannot run either. It is tried again every few minutes without further words.",
		Advice:  "Is the Wi-Fi adapter plugged in and its driver loaded (lsmod, sudo dmesg)? If an external access point hangs on this network, remove its [network.radio] section.",
	}
	RadioMissing = &Kind{
		ID: "radio-interface-missing", Level: Warning,
		Text:    "the radio {INTERFACE} of {NETWORK} is not there",
		Explain: "No wireless interface has this name. Chargers of this network have no Wi-Fi.",
		Advice:  "Is the adapter plugged in? The command iw dev lists the radios there are; write the right name as interface of this [[network]].",
	}
	RadioNotAccessPoint = &Kind{
		ID: "radio-not-access-point", Level: Warning,
		Text:    "the radio {INTERFACE} of {NETWORK} is not an access point but: {TYPE}",
		Explain: "The interface is there, but nothing has made it an access point. hostapd does that, once the services of this box are ready. Chargers of this network have no Wi-Fi.",
		Advice:  "Run: sudo systemctl status chargegate-radio@{NETWORK}, and read the last lines of its log. Nothing else, like NetworkManager or wpa_supplicant, may use this interface.",
	}
	RadioFailed = &Kind{
		ID: "radio-failed", Level: Warning,
		Text:    "the radio {INTERFACE} of {NETWORK} does not say who is on it: {ERROR}",
		Explain: "The driver refused or did not answer the question for its stations. What was known stays; it is asked again at the next round.",
		Advice:  "If it lasts, the firmware of the radio has probably stopped: run sudo dmesg and look for lines of the driver, then sudo systemctl restart chargegate-radio@{NETWORK}, and if that does not help restart the box. The key revive of this network lets the box do so by itself.",
		Every:   hour,
	}
	RadioWatched = &Kind{
		ID: "radio-watched", Level: Info,
		Text:    "the radio {INTERFACE} of {NETWORK} is an access point, with {STATIONS} stations",
		Explain: "The radio is there and can be asked who is on it.",
	}
	RadioNearlyFull = &Kind{
		ID: "radio-nearly-full", Level: Warning,
		Text:    "the radio {INTERFACE} of {NETWORK} holds {STATIONS} stations of at most {LIMIT}",
		Explain: "Four fifths of what the radio can hold are taken (F-10). At the limit the next station is refused, on some radios without a word.",
		Advice:  "Before more chargers are installed here: raise max_stations of this [[network]] if the adapter holds more; else plan another radio or an external access point.",
		Every:   hour,
	}
	RadioFull = &Kind{
		ID: "radio-full", Level: Warning,
		Text:    "the radio {INTERFACE} of {NETWORK} is full: {STATIONS} stations of at most {LIMIT}",
		Explain: "The radio holds as many stations as max_stations allows (F-10). hostapd refuses the next one.",
		Advice:  "Look for strangers on it (sudo chargegate chargers). If there are none and the adapter holds more, raise max_stations of this [[network]]. Else this network needs another radio or an external access point.",
		Every:   hour,
	}
	RadioStrangers = &Kind{
		ID: "radio-strangers", Level: Warning,
		Text:    "{COUNT} times within the hour somebody whom the inventory does not name has joined the Wi-Fi of {NETWORK}; who else joins and leaves is counted and not named",
		Explain: "They have the passphrase of this network, which only chargers should have. A telephone may come with a new MAC each time, so that strangers are said one by one only up to a number.",
		Advice:  "If these are chargers, add them to the inventory. Otherwise set another passphrase, here and in the chargers.",
		Every:   hour,
	}
)

// What the radio room says of those who do not come in, and of radios that do not serve.
var (
	ChargerWrongPassphrase = &Kind{
		ID: "charger-wrong-passphrase", Level: Warning,
		Text:    "{WHO} does not join the Wi-Fi of {NETWORK}: its passphrase is wrong ({TRIES})",
		Explain: "hostapd could not verify the answer to the first message of the 4-way handshake: the device found the network by its name and has another passphrase. It is said at the third try in a row, since one may fail by chance where hostapd was started anew, and once an hour after that, with the number of tries.",
		Advice:  "Enter the passphrase of this network again in Zaptec's app, standing at the charger; upper and lower case count. If others fail too, the box's own passphrase was changed: compare passphrase of [network.radio], then run: sudo systemctl restart chargegate-prepare chargegate-radio@{NETWORK}. If this is not a charger of yours, nothing needs doing.",
	}
	RadioWrongPassphrases = &Kind{
		ID: "radio-wrong-passphrases", Level: Warning,
		Text:    "{COUNT} devices that the inventory does not name have tried wrong passphrases on the Wi-Fi of {NETWORK} within the hour; more of them are counted and not named",
		Explain: "A MAC is easily made up, so strangers are said one by one only up to a number. The metric chargegate_radio_wrong_passphrases_total counts all attempts.",
		Advice:  "If the passphrase was changed, the chargers need the new one, or the box the old one: compare passphrase of [network.radio], then run: sudo systemctl restart chargegate-prepare chargegate-radio@{NETWORK}. Otherwise somebody nearby is guessing; a long passphrase is protection enough.",
		Every:   hour,
	}
	ChargerRefusedJoin = &Kind{
		ID: "charger-refused", Level: Warning,
		Text:    "{WHO} was not let onto the Wi-Fi of {NETWORK}: {REASON}",
		Explain: "hostapd answered the device's request with a refusal (IEEE 802.11, table 9-50). Where it wants WPA3 or protected management frames, it was told so by what it remembers of another access point with the same name.",
		Advice:  "In Zaptec's app, remove the network from the charger and choose it again. If that does not help, tell support the status number.",
	}
	RadioRefuses = &Kind{
		ID: "radio-refuses", Level: Warning,
		Text:    "the radio {INTERFACE} of {NETWORK} has no room for {WHO} and refuses it: it holds {STATIONS} of at most {LIMIT} stations",
		Explain: "Somebody wanted to join, and hostapd answered that there is no more room (status 17). Either max_stations is reached (F-10), which hostapd never exceeds, or, with fewer stations than that, the radio's own table is full. Who authenticates and comes no further, as with a wrong passphrase, takes a place while it tries and is counted here; the metric chargegate_radio_unauthorized_stations shows how many those are.",
		Advice:  "Look for strangers on it (sudo chargegate chargers). If there are none and the adapter holds more, raise max_stations of this [[network]]. Else this network needs another radio or an external access point. If the radio refuses below its limit, set max_stations of this [[network]] to what it really holds.",
	}
	RadioSilent = &Kind{
		ID: "radio-silent", Level: Error,
		Text:    "the radio {INTERFACE} of {NETWORK} sends no beacons: {ERROR}",
		Explain: "The interface is an access point, but nothing has been at work on it for a minute: hostapd has stopped, hangs or was refused by the driver. Chargers of this network have no Wi-Fi.",
		Advice:  "Run: sudo systemctl status chargegate-radio@{NETWORK}, and sudo dmesg for lines of the driver. The key revive of this network lets the box try restarts by itself, once that is switched on: sudo systemctl enable --now chargegate-revive.",
	}
	RadioHostapdUnheard = &Kind{
		ID: "radio-hostapd-unheard", Level: Error,
		Text:    "hostapd of the radio {INTERFACE} of {NETWORK} does not answer, and probably nobody can join meanwhile: {ERROR}",
		Explain: "The radio still sends, but hostapd's control socket in /run/hostapd has not answered for a minute. Most likely hostapd hangs: who is on the radio stays, and who wants to join is not answered. Or it was started by something else and has no such socket; then only wrong passphrases and the reasons with which chargers leave are not told.",
		Advice:  "Run: sudo systemctl restart chargegate-radio@{NETWORK}; chargers reconnect within a minute. hostapd must be started by this unit, whose configuration names the socket and the group chargegate.",
	}
	RadioHostapdHeard = &Kind{
		ID: "radio-hostapd-heard", Level: Info,
		Text:    "hostapd of the radio {INTERFACE} of {NETWORK} answers again",
		Explain: "The control socket answers. Chargers can join; wrong passphrases and the reasons with which chargers leave are told again.",
	}
)

var radioKinds = []*Kind{
	ChargerJoined, ChargerLeft, RadioUnsupported, RadioMissing, RadioNotAccessPoint, RadioFailed, RadioWatched,
	RadioNearlyFull, RadioFull, RadioStrangers,
	ChargerWrongPassphrase, RadioWrongPassphrases, ChargerRefusedJoin, RadioRefuses, RadioSilent, RadioHostapdUnheard, RadioHostapdHeard,
}
