package hello

// Usual reads a hello that has come whole and is like nearly all of them, as Read
// would. It turns down everything else, also what has only begun: that is Read's.
// Bytes is b.
func Usual(b []byte) (Hello, bool) {
	h, ok := quick(b)
	h.Bytes = b
	return h, ok
}
