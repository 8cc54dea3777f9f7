package event

// What the radio room says of the air that it shares with others.
var (
	RadioChannelBusy = &Kind{
		ID: "radio-channel-busy", Level: Warning,
		Text:    "others take {BUSY} % of the air on channel {CHANNEL}, which is the channel of {NETWORK}",
		Explain: "The radio counts how long it hears something on its channel; what it sent or received itself is left out. The median of ten minutes is above 60 %. Chargers have to wait for the air then, and lose frames however well they are heard. This is said once until it is below 45 %. Of the Raspberry Pi's own radio it is never said: while it serves it is not asked, because it would leave its channel for that.",
		Advice:  "Look for a better channel when the chargers can be without Wi-Fi for about half a minute, two at most: sudo chargegate survey -network {NETWORK} -interrupt. Something that is no Wi-Fi at all (a wireless camera, a microwave oven) is found by switching it off.",
	}
	RadioChannelFreer = &Kind{
		ID: "radio-channel-freer", Level: Info,
		Text:    "there is room again on channel {CHANNEL} of {NETWORK}: others take {BUSY} % of the air",
		Explain: "What radio-channel-busy spoke of is over: the median of ten minutes is below 45 %.",
	}
)

var airKinds = []*Kind{RadioChannelBusy, RadioChannelFreer}
