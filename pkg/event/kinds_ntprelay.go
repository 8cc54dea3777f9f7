package event

// What the ntprelay room says.
var ()

var ntprelayKinds = []*Kind{}
