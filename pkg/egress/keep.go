package egress

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"chargegate/pkg/carry"
	"chargegate/pkg/event"

	"golang.org/x/sys/unix"
)

// What is kept under which name. A conversation's number is its slot in the
// ledger. Names are short: all of them together are one variable in the
// environment of the next process.
const (
	ledgerName = "ledger"
	keptPrefix = "conv-"
)

func keptName(slot int) string { return keptPrefix + strconv.Itoa(slot) }

// keepAgain is how long the keeper waits when the manager did not listen.
const keepAgain = time.Second

// A keeper has conversations kept by the manager, so that they outlive the
// process. One goroutine speaks with the manager: who opens a conversation, and
// the wheel that carries them, never wait for it.
type keeper struct {
	store Store
	log   *event.Log
	again time.Duration

	mu       sync.Mutex
	ledger   *ledger // nil: nothing can be kept
	entered  bool    // the manager has the ledger
	free     []int   // slots; the last one is next
	todo     []*kept // those that the manager must be told of
	quiet    chan struct{}
	wake     chan struct{}
	speaking *kept // whom the manager is told of right now
}

// A kept is a conversation in the keeper's hands, or what is left of one.
type kept struct {
	name  string
	slot  int   // -1: none
	fds   []int // copies of our own, until the manager has some
	given bool  // the manager has some
	over  bool  // it has ended
}

func newKeeper(store Store, log *event.Log) *keeper {
	return &keeper{store: store, log: log, again: keepAgain, wake: make(chan struct{}, 1)}
}

// keep has the conversation kept that p is and r describes, and makes p count in
// the ledger. p is not carried yet. nil: it is not kept, and works all the same.
func (k *keeper) keep(p *carry.Pair, r record) *kept {
	if k == nil {
		return nil
	}
	e, err := k.enter(p, r)
	if err != nil {
		k.log.Say(event.HandoverKeepFailed, event.F("WHAT", "a conversation"), event.Err(err))
	}
	return e
}

// errLedgerFull says that there are more conversations than are kept.
var errLedgerFull = fmt.Errorf("%d are kept already", ledgerSlots)

func (k *keeper) enter(p *carry.Pair, r record) (*kept, error) {
	if err := r.identify(p); err != nil {
		return nil, err
	}
	fds, err := copies(p.Sockets[carry.Near], p.Sockets[carry.Far], p.Up.Write, p.Down.Write)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ledger == nil || len(k.free) == 0 {
		closeAll(fds)
		if k.ledger == nil {
			return nil, errNoLedger
		}
		return nil, errLedgerFull
	}
	slot := k.free[len(k.free)-1]
	k.ledger.clear(slot)
	if err := k.ledger.fill(slot, r); err != nil {
		closeAll(fds)
		return nil, err
	}
	k.free = k.free[:len(k.free)-1]
	counts := k.ledger.counts(slot)
	if p.Counts != nil {
		counts.Up.Store(p.Counts.Up.Load())
		counts.Down.Store(p.Counts.Down.Load())
	}
	p.Counts = counts
	e := &kept{name: keptName(slot), slot: slot, fds: fds}
	k.queueLocked(e)
	return e, nil
}

// queueLocked has the manager told of e when its turn comes.
func (k *keeper) queueLocked(e *kept) {
	k.todo = append(k.todo, e)
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// end lets go of a conversation that has ended: both connections were shut down.
// Its slot must not be looked at any more.
func (k *keeper) end(e *kept) {
	if e == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	e.over = true
	if e.slot >= 0 {
		k.ledger.state(e.slot).Store(slotOver) // the next process does not take it for a live one
	}
	switch {
	case e == k.speaking: // whoever speaks goes on with it
	case e.given:
		k.queueLocked(e)
	default: // its turn has not come
		if i := slices.Index(k.todo, e); i >= 0 {
			k.todo = slices.Delete(k.todo, i, i+1)
		}
		k.forgetLocked(e)
	}
}

// forgetLocked gives the slot of e free. The manager has nothing of it.
func (k *keeper) forgetLocked(e *kept) {
	closeAll(e.fds)
	e.fds = nil
	if e.slot >= 0 {
		k.ledger.state(e.slot).Store(slotFree)
		k.free = append(k.free, e.slot)
	}
	k.quietLocked()
}

// quietLocked tells who waits that there is nothing more to do.
func (k *keeper) quietLocked() {
	if len(k.todo) == 0 && k.speaking == nil && k.quiet != nil {
		close(k.quiet)
		k.quiet = nil
	}
}

// has reports whether the manager holds e, so that the next process can go on
// with it.
func (k *keeper) has(e *kept) bool {
	if k == nil || e == nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return e.given && !e.over && k.entered
}

// run speaks with the manager until ctx is done.
func (k *keeper) run(ctx context.Context) {
	for ctx.Err() == nil {
		worked, err := k.speak()
		var wait <-chan time.Time
		switch {
		case err != nil:
			k.log.Say(event.HandoverKeepFailed, event.F("WHAT", "a conversation"), event.Err(err))
			wait = time.After(k.again)
		case worked:
			continue
		}
		select {
		case <-ctx.Done():
		case <-wait:
		case <-k.wake: // also after a failure: it has been said, and who waits at the end has little time
		}
	}
}

// speak tells the manager one thing, if there is anything. With an error that is
// told again later.
func (k *keeper) speak() (worked bool, err error) {
	k.mu.Lock()
	if k.ledger == nil || len(k.todo) == 0 {
		k.mu.Unlock()
		return false, nil
	}
	// What the manager is to forget comes first: it makes room. Apart from that the
	// order means nothing, because a slot is used again only when it was forgotten.
	next := max(slices.IndexFunc(k.todo, func(e *kept) bool { return e.given }), 0)
	e, entered, file := k.todo[next], k.entered, k.ledger.file
	k.todo = slices.Delete(k.todo, next, next+1)
	k.speaking = e
	remove := e.given
	k.mu.Unlock()

	if !entered {
		err = k.store.Keep(ledgerName, file)
		entered = err == nil
	}
	switch {
	case err != nil:
	case remove:
		err = k.store.Remove(e.name)
	default:
		err = k.store.Give(e.name, e.fds...)
	}

	k.mu.Lock()
	defer k.mu.Unlock()
	k.entered, k.speaking = entered, nil
	switch {
	case err != nil && e.over && !e.given: // it has ended meanwhile, and nobody has it
		k.forgetLocked(e)
	case err != nil:
		k.todo = append(k.todo, e)
		return false, err
	case remove:
		e.given = false
		k.forgetLocked(e)
	default:
		e.given = true
		closeAll(e.fds)
		e.fds = nil
		if e.over {
			k.todo = append(k.todo, e)
		} else {
			k.ledger.state(e.slot).Store(slotKept)
		}
		k.quietLocked()
	}
	return true, nil
}

// flush waits until the manager has been told everything, or for so long. It
// reports whether it has been.
func (k *keeper) flush(patience time.Duration) bool {
	if k == nil {
		return true
	}
	k.mu.Lock()
	if len(k.todo) == 0 && k.speaking == nil || k.ledger == nil {
		k.mu.Unlock()
		return true
	}
	if k.quiet == nil {
		k.quiet = make(chan struct{})
	}
	quiet := k.quiet
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
	select {
	case <-quiet:
		return true
	case <-time.After(patience):
		return false
	}
}

// beat notes in the ledger that the daemon is there.
func (k *keeper) beat() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ledger != nil {
		k.ledger.alive().Store(int64(sinceBoot()))
	}
}

// moved notes in the ledger that bytes of e were seen to move.
func (k *keeper) moved(e *kept) {
	if e != nil && e.slot >= 0 {
		k.ledger.moved(e.slot).Store(int64(sinceBoot()))
	}
}

// identify enters who the sockets and pipes of p are.
func (r *record) identify(p *carry.Pair) (err error) {
	if r.near, err = cookie(p.Sockets[carry.Near]); err != nil {
		return err
	}
	if r.far, err = cookie(p.Sockets[carry.Far]); err != nil {
		return err
	}
	if r.up, err = inode(p.Up.Write); err != nil {
		return err
	}
	r.down, err = inode(p.Down.Write)
	return err
}

// cookie is the kernel's own number of a socket; it gives none twice.
func cookie(fd int) (uint64, error) {
	c, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("asking who a socket is: %w", err)
	}
	return c, nil
}

// errNoPipe says that a descriptor is no pipe.
var errNoPipe = errors.New("it is no pipe")

// inode is the number of a pipe.
func inode(fd int) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("asking who a pipe is: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return 0, errNoPipe
	}
	return uint64(st.Ino), nil
}

// copies returns descriptors of our own, or none.
func copies(fds ...int) ([]int, error) {
	var all []int
	for _, fd := range fds {
		c, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			closeAll(all)
			return nil, fmt.Errorf("copying a descriptor: %w", err)
		}
		all = append(all, c)
	}
	return all, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}
