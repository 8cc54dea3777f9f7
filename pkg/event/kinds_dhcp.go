package event

// What the dhcp room says.
var ()

var dhcpKinds = []*Kind{}
