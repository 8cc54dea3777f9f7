package event

// What the resolver room says.
var ()

var resolverKinds = []*Kind{}
