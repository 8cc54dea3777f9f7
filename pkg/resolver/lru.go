package resolver

import "container/list"

// An lru is a map of bounded size that forgets what was used longest ago. It is
// not safe for concurrent use.
type lru[K comparable, V any] struct {
	max   int
	order list.List // of pair, the latest first
	at    map[K]*list.Element
}

type pair[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](size int) *lru[K, V] {
	return &lru[K, V]{max: size, at: map[K]*list.Element{}}
}

// get returns the value of a key and counts as a use.
func (l *lru[K, V]) get(k K) (V, bool) {
	e, ok := l.at[k]
	if !ok {
		var none V
		return none, false
	}
	l.order.MoveToFront(e)
	return e.Value.(*pair[K, V]).value, true
}

// put sets the value of a key and counts as a use.
func (l *lru[K, V]) put(k K, v V) {
	if e, ok := l.at[k]; ok {
		e.Value.(*pair[K, V]).value = v
		l.order.MoveToFront(e)
		return
	}
	if len(l.at) >= l.max {
		last := l.order.Back()
		delete(l.at, last.Value.(*pair[K, V]).key)
		l.order.Remove(last)
	}
	l.at[k] = l.order.PushFront(&pair[K, V]{k, v})
}

func (l *lru[K, V]) len() int { return len(l.at) }
