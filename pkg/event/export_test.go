package event

// Limits tells how many subjects are remembered for Kind.Every.
func Limits(l *Log) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.limits) + len(l.shares)
}
