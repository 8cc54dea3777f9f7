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
	"chargegate/pkg/policy"

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

const (
	// keepAgain is how long the keeper waits when the manager did not listen.
	keepAgain = time.Second
	// keepAfter is how old a conversation is given that is not made to last. systemd
	// compares each descriptor that it is given with all that it has: a conversation
	// costs process 1 up to 10 ms when there are many, and firmware comes in many
	// conversations of a second or less (F-7). Those are over before they are given.
	// In return a crash, which nobody sees coming, costs those that are younger.
	keepAfter = time.Second
)

// A keeper has conversations kept by the manager, so that they outlive the
// process. One goroutine speaks with the manager: who opens a conversation, and
// the wheel that carries them, never wait for it.
type keeper struct {
	store Store
	log   *event.Log
	again time.Duration
	after time.Duration

	mu       sync.Mutex
	ledger   *ledger // nil: nothing can be kept
	entered  bool    // the manager has the ledger
	free     []int   // slots; the last one is next
	todo     []*kept // those that the manager must be told of
	hurry    bool    // somebody waits: nobody is too young
	quiet    chan struct{}
	wake     chan struct{}
	speaking *kept // whom the manager is told of right now
}

// A kept is a conversation in the keeper's hands, or what is left of one.
type kept struct {
	name    string
	slot    int       // -1: none
	record  record    // what the next process must know of it
	copies  copier    // of its descriptors
	lasting bool      // it is made to last: its turn comes at once
	due     time.Time // when the turn of another one comes
	written bool      // the record is in the ledger
	given   bool      // the manager has copies
	over    bool      // it has ended
}

// A copier makes copies of the descriptors of a conversation: the charger's, the
// server's, and the writing ends of the pipes up and down. None: it has ended.
type copier func() ([]int, error)

func newKeeper(store Store, log *event.Log) *keeper {
	return &keeper{store: store, log: log, again: keepAgain, after: keepAfter, wake: make(chan struct{}, 1)}
}

// keep finds a place for the conversation that p is and r describes, and makes p
// count in the ledger. nil: it is not kept, and works all the same.
func (k *keeper) keep(p *carry.Pair, r record, copies copier) *kept {
	if k == nil {
		return nil
	}
	e, err := k.enter(p, r, copies)
	if err != nil {
		k.log.Say(event.HandoverKeepFailed, event.F("WHAT", "a conversation"), event.Err(err))
	}
	return e
}

// errLedgerFull says that there are more conversations than are kept.
var errLedgerFull = fmt.Errorf("%d are kept already", ledgerSlots)

func (k *keeper) enter(p *carry.Pair, r record, copies copier) (*kept, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ledger == nil {
		return nil, errNoLedger
	}
	if len(k.free) == 0 {
		return nil, errLedgerFull
	}
	slot := k.free[len(k.free)-1]
	k.ledger.clear(slot)
	k.free = k.free[:len(k.free)-1]
	counts := k.ledger.counts(slot)
	if p.Counts != nil {
		counts.Up.Store(p.Counts.Up.Load())
		counts.Down.Store(p.Counts.Down.Load())
	}
	p.Counts = counts
	return &kept{
		name: keptName(slot), slot: slot, record: r, copies: copies,
		lasting: r.port == policy.HubPort || r.plain, due: time.Now().Add(k.after),
	}, nil
}

// offer has the manager told of a conversation that is carried now. What is over
// before its turn costs no copies and no words.
func (k *keeper) offer(e *kept) {
	if e == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !e.over {
		k.queueLocked(e)
	}
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
		worked, rest, err := k.speak()
		var wait <-chan time.Time
		switch {
		case err != nil:
			k.log.Say(event.HandoverKeepFailed, event.F("WHAT", "a conversation"), event.Err(err))
			wait = time.After(k.again)
		case worked:
			continue
		case rest > 0:
			wait = time.After(rest)
		}
		select {
		case <-ctx.Done():
		case <-wait:
		case <-k.wake: // also after a failure: it has been said, and who waits at the end has little time
		}
	}
}

// nextLocked returns where in todo is what the manager is told next. Less than 0:
// nothing yet, but after rest; 0: only when there is more to tell.
//
// What the manager is to forget comes first: it makes room. Then come those that
// are made to last. Apart from that the order means nothing, because a slot is used
// again only when it was forgotten.
func (k *keeper) nextLocked(now time.Time) (next int, rest time.Duration) {
	if i := slices.IndexFunc(k.todo, func(e *kept) bool { return e.given }); i >= 0 {
		return i, 0
	}
	if i := slices.IndexFunc(k.todo, func(e *kept) bool { return e.lasting }); i >= 0 {
		return i, 0
	}
	for i, e := range k.todo {
		young := e.due.Sub(now)
		if k.hurry || young <= 0 {
			return i, 0
		}
		if rest == 0 || young < rest {
			rest = young
		}
	}
	return -1, rest
}

// speak tells the manager one thing, if there is anything; rest is when there will
// be, 0 when nobody knows. With an error that is told again later.
func (k *keeper) speak() (worked bool, rest time.Duration, err error) {
	k.mu.Lock()
	if k.ledger == nil {
		k.mu.Unlock()
		return false, 0, nil
	}
	next, rest := k.nextLocked(time.Now())
	if next < 0 {
		k.mu.Unlock()
		return false, rest, nil
	}
	e, entered, file := k.todo[next], k.entered, k.ledger.file
	k.todo = slices.Delete(k.todo, next, next+1)
	k.speaking = e
	remove, gone := e.given, false
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
		gone, err = k.give(e)
	}

	k.mu.Lock()
	defer k.mu.Unlock()
	k.entered, k.speaking = entered, nil
	switch {
	case gone && e.over:
		k.forgetLocked(e)
	case gone: // end comes at once, and finds that its turn has not come
		k.quietLocked()
	case err != nil && e.over && !e.given: // it has ended meanwhile, and nobody has it
		k.forgetLocked(e)
	case err != nil:
		k.todo = append(k.todo, e)
		return false, 0, err
	case remove:
		e.given = false
		k.forgetLocked(e)
	default:
		e.given = true
		if e.over {
			k.todo = append(k.todo, e)
		} else {
			k.ledger.state(e.slot).Store(slotKept)
		}
		k.quietLocked()
	}
	return true, 0, nil
}

// give writes down what a conversation is, and has the manager keep it; or says that
// it is gone.
func (k *keeper) give(e *kept) (gone bool, err error) {
	fds, err := e.copies()
	if err != nil {
		return false, fmt.Errorf("copying a descriptor: %w", err)
	}
	if fds == nil {
		return true, nil
	}
	defer closeAll(fds)
	if err := k.write(e, fds); err != nil {
		return false, err
	}
	return false, k.store.Give(e.name, fds...)
}

// write enters in the ledger what a conversation is.
func (k *keeper) write(e *kept, fds []int) error {
	if e.written {
		return nil
	}
	if err := e.record.identify(fds); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if e.over { // it is said to be, already
		return nil
	}
	e.written = true
	return k.ledger.fill(e.slot, e.record)
}

// flush waits until the manager has been told everything, however young, or for so
// long. It reports whether it has been.
func (k *keeper) flush(patience time.Duration) bool {
	if k == nil {
		return true
	}
	k.mu.Lock()
	if len(k.todo) == 0 && k.speaking == nil || k.ledger == nil {
		k.mu.Unlock()
		return true
	}
	k.hurry = true
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
	case <-time.After(patience):
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hurry = false
	return k.quiet == nil
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

// saved notes in the ledger that the accounts hold e up to these counts.
func (k *keeper) saved(e *kept, up, down int64) {
	if k == nil || e == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if e.over || e.slot < 0 || k.ledger == nil { // the slot may be somebody else's by now
		return
	}
	had := k.ledger.saved(e.slot)
	had.up.Store(up)
	had.down.Store(down)
	had.sessions.Store(1)
}

// identify enters who the sockets and pipes are, in the order of a copier.
func (r *record) identify(fds []int) (err error) {
	if r.near, err = cookie(fds[0]); err != nil {
		return err
	}
	if r.far, err = cookie(fds[1]); err != nil {
		return err
	}
	if r.up, err = inode(fds[2]); err != nil {
		return err
	}
	r.down, err = inode(fds[3])
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

func closeAll(fds []int) {
	for _, fd := range fds {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}
