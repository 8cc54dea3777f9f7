package lease

import (
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

var (
	errPower = errors.New("the power is off")
	errFull  = errors.New("no space left on device")
)

// A memory is a disk that forgets, at a power cut, what was not synced: bytes
// of a file after its last sync, and names in the directory after the last sync
// of that. How much of it is forgotten is random, in the order in which it was
// done.
type memory struct {
	rnd     *rand.Rand
	latency time.Duration // of a sync of a file

	mu      sync.Mutex
	names   map[string]*inode
	history []map[string]*inode // the directory since its last sync
	left    int                 // operations until the power cut; negative: none comes
	off     bool
	room    int // bytes until the disk is full; negative: endless
	syncs   int
}

type inode struct {
	data   []byte
	synced int
}

func newMemory(seed uint64) *memory {
	m := &memory{rnd: rand.New(rand.NewPCG(seed, 1)), names: map[string]*inode{}, left: -1, room: -1}
	m.history = []map[string]*inode{{}}
	return m
}

// reboot is what is found when the power is back.
func (m *memory) reboot() *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := newMemory(m.rnd.Uint64())
	for name, was := range m.history[m.rnd.IntN(len(m.history))] {
		keep := was.synced + m.rnd.IntN(len(was.data)-was.synced+1)
		data := slices.Clone(was.data[:keep])
		if keep > was.synced && m.rnd.IntN(3) == 0 {
			clear(data[was.synced+m.rnd.IntN(keep-was.synced):]) // a length that lasted before its bytes did
		}
		after.names[name] = &inode{data: data, synced: len(data)}
	}
	after.history = []map[string]*inode{maps.Clone(after.names)}
	return after
}

// step counts an operation, and cuts the power at its turn.
func (m *memory) step() error {
	if m.left == 0 {
		m.off = true
	}
	m.left--
	if m.off {
		return errPower
	}
	return nil
}

func (m *memory) changed() { m.history = append(m.history, maps.Clone(m.names)) }

func (m *memory) list() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.names)), m.step()
}

func (m *memory) read(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names[name] == nil {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(m.names[name].data), m.step()
}

func (m *memory) create(name string) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step(); err != nil {
		return nil, err
	}
	if m.names[name] != nil {
		return nil, fs.ErrExist
	}
	m.names[name] = &inode{}
	m.changed()
	return handle{m, m.names[name]}, nil
}

func (m *memory) extend(name string, size int64) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step(); err != nil {
		return nil, err
	}
	f := m.names[name]
	f.data = f.data[:size]
	f.synced = len(f.data)
	return handle{m, f}, nil
}

func (m *memory) rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step(); err != nil {
		return err
	}
	m.names[to] = m.names[from]
	delete(m.names, from)
	m.changed()
	return nil
}

func (m *memory) remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step(); err != nil {
		return err
	}
	if m.names[name] == nil {
		return fs.ErrNotExist
	}
	delete(m.names, name)
	m.changed()
	return nil
}

func (m *memory) sync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step(); err != nil {
		return err
	}
	m.history = []map[string]*inode{maps.Clone(m.names)}
	return nil
}

type handle struct {
	m *memory
	f *inode
}

func (h handle) Write(b []byte) (int, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	n, err := len(b), h.m.step()
	if h.m.room >= 0 && n > h.m.room {
		n, err = h.m.room, errFull
	}
	if errors.Is(err, errPower) && n > 0 {
		n = h.m.rnd.IntN(n)
	}
	h.f.data = append(h.f.data, b[:n]...)
	if h.m.room >= 0 {
		h.m.room -= n
	}
	return n, err
}

func (h handle) Sync() error {
	if h.m.latency > 0 {
		time.Sleep(h.m.latency) // in a bubble: virtual
	}
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if err := h.m.step(); err != nil {
		return err
	}
	h.m.syncs++
	h.f.synced = len(h.f.data)
	return nil
}

func (h handle) Close() error { return nil }
