package event

// What the config room says.
var ()

var configKinds = []*Kind{}
