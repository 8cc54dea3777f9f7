package event

// What the status room says.
var ()

var statusKinds = []*Kind{}
