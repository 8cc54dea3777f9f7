package event

// What the handover room says.
var ()

var handoverKinds = []*Kind{}
