package uplink

// Config is what the room needs to know.
type Config struct {
	// Interface is the one towards the Internet, as ip link shows it.
	Interface string
}
