package resolver

import "iter"

// A shelf holds what is remembered, by key. The exact names of the list have
// places of their own, which nothing takes from them: a pattern lets a stranger
// ask for names without end, and the hub must not be forgotten for those. All
// others share maxNames places, and the one that was used longest ago makes room.
// It is not safe for concurrent use.
type shelf struct {
	exact  map[string]*entry // never nil entries
	others *lru[string, *entry]
}

func newShelf() *shelf {
	return &shelf{exact: map[string]*entry{}, others: newLRU[string, *entry](maxNames)}
}

// get returns what is remembered of a name and counts as a use.
func (s *shelf) get(name string) (*entry, bool) {
	if e := s.exact[name]; e != nil {
		return e, true
	}
	return s.others.get(name)
}

// getBytes is get for a name that is not a string yet, without making it one.
func (s *shelf) getBytes(name []byte) (*entry, bool) {
	if e := s.exact[string(name)]; e != nil {
		return e, true
	}
	return s.others.use(s.others.at[string(name)])
}

// put remembers and counts as a use.
func (s *shelf) put(name string, e *entry) {
	if s.exact[name] != nil {
		e.exact = true
		s.exact[name] = e
		return
	}
	e.exact = false
	s.others.put(name, e)
}

// follow gives the names their own places, and moves the names that have one and
// are not among them to the others.
func (s *shelf) follow(names map[string]bool) {
	for name, e := range s.exact {
		if !names[name] {
			delete(s.exact, name)
			s.put(name, e)
		}
	}
	for name := range names {
		if s.exact[name] != nil {
			continue
		}
		e, _ := s.others.get(name)
		if e == nil {
			e = &entry{}
		}
		s.others.remove(name)
		e.exact = true
		s.exact[name] = e
	}
}

// all goes through everything: the exact names, then the others, what was used
// last first.
func (s *shelf) all() iter.Seq2[string, *entry] {
	return func(yield func(string, *entry) bool) {
		for name, e := range s.exact {
			if !yield(name, e) {
				return
			}
		}
		s.others.all()(yield)
	}
}

// len returns how many names something is remembered of.
func (s *shelf) len() int {
	n := s.others.len()
	for _, e := range s.exact {
		if !e.tried.IsZero() || e.good != nil {
			n++
		}
	}
	return n
}
