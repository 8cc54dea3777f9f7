package event

// What the denied room says.
var ()

var deniedKinds = []*Kind{}
