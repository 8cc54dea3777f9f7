package event

// What the egress room says.
var ()

var egressKinds = []*Kind{}
