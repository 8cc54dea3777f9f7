package wire

// Unplug is the argument of the op "unplug": the radio of an interface of the
// gateway's is taken away, and its answer's Out is the radio's hardware address; or
// one of the address Back is put in, and the kernel calls its interface Named, where
// that is not empty.
type Unplug struct {
	Interface string `json:"interface,omitempty"`
	Back      string `json:"back,omitempty"`
	Named     string `json:"named,omitempty"`
}
