package event

// What the radio room says.
var ()

var radioKinds = []*Kind{}
