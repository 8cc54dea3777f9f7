package resolver

import (
	"container/list"
	"iter"
)

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
func (l *lru[K, V]) get(k K) (V, bool) { return l.use(l.at[k]) }

// use returns the value of an element of the map, which may be nil, and counts
// as a use.
func (l *lru[K, V]) use(e *list.Element) (V, bool) {
	if e == nil {
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
		l.remove(l.order.Back().Value.(*pair[K, V]).key)
	}
	l.at[k] = l.order.PushFront(&pair[K, V]{k, v})
}

// remove forgets a key.
func (l *lru[K, V]) remove(k K) {
	if e, ok := l.at[k]; ok {
		delete(l.at, k)
		l.order.Remove(e)
	}
}

// all goes through everything, what was used last first.
func (l *lru[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for e := l.order.Front(); e != nil; e = e.Next() {
			p := e.Value.(*pair[K, V])
			if !yield(p.key, p.value) {
				return
			}
		}
	}
}

func (l *lru[K, V]) len() int { return len(l.at) }
