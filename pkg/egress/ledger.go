package egress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"chargegate/pkg/carry"
	"chargegate/pkg/charger"
	"chargegate/pkg/policy"

	"golang.org/x/sys/unix"
)

// A ledger is what the next process must know of the conversations of this one:
// a file in memory (memfd_create(2)) that is kept beside them. It is mapped, so
// whatever is in it survives a crash at any moment, and bytes are counted in it
// directly.
//
// It has a header and slots of one size. A slot is written whole, then marked as
// used by one atomic store; whoever reads it checks the sum of it. All numbers are
// the machine's own, and times are of CLOCK_BOOTTIME: a ledger never leaves the
// machine, nor the boot that it was made in.
type ledger struct {
	file *os.File
	mem  []byte
}

// A ledger of another version, or of one that was built otherwise, is not read.
// The version changes with anything below, carry.Counts included.
const (
	ledgerMagic   = 0x6c67_6774_6163_6863 // "chcatggl"
	ledgerVersion = 2
)

const (
	// ledgerSlots is how many conversations are kept at most: with four
	// descriptors each they and the listeners fit FileDescriptorStoreMax=4096.
	ledgerSlots = 1000
	headerSize  = 512
	slotSize    = 512
	ledgerSize  = headerSize + ledgerSlots*slotSize
)

// Where things are in the header.
const (
	headMagic   = 0
	headVersion = 8
	headSlots   = 12
	headAlive   = 16 // when the daemon was last there
)

// Where things are in a slot. What is from slotSum to slotFixed is never changed
// while the slot is used.
const (
	slotState  = 0
	slotSum    = 4
	slotBegin  = 8
	slotFixed  = 352
	slotMoved  = 384 // when bytes were last seen to move
	slotTaken  = 392 // how often it was taken over
	slotCounts = 400
	slotSaved  = 448
)

// What the layout relies on: no count straddles the end of its place.
const (
	_ = uint(slotSaved - slotCounts - unsafe.Sizeof(carry.Counts{}))
	_ = uint(slotSize - slotSaved - unsafe.Sizeof(savedCounts{}))
)

// savedCounts are what the accounts on disk hold of a conversation.
type savedCounts struct{ up, down, sessions atomic.Int64 }

// The states of a slot.
const (
	slotFree uint32 = iota
	slotUsed        // written, and waiting for the manager
	slotKept        // the manager has it
	slotOver        // it has ended, but is kept still
)

// A record is what does not change of a conversation that is kept.
type record struct {
	near, far uint64        // SO_COOKIE of the sockets: the kernel never gives one twice
	up, down  uint64        // inodes of the pipes
	opened    time.Duration // since boot
	caller    netip.Addr
	remote    netip.AddrPort
	port      uint16
	share     share
	name, by  string
	plain     bool // a rule for callers without TLS allowed it
}

// sinceBoot is the time that the ledger has.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0 // there is no Linux without it
	}
	return time.Duration(ts.Nano())
}

// newLedger makes an empty ledger.
func newLedger() (*ledger, error) {
	fd, err := unix.MemfdCreate("chargegate-ledger", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "ledger")
	if err := f.Truncate(ledgerSize); err != nil {
		f.Close()
		return nil, err
	}
	// Reading beyond the end of a mapped file ends the process: nobody shall be
	// able to make it shorter.
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		f.Close()
		return nil, os.NewSyscallError("fcntl", err)
	}
	l, err := mapLedger(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	binary.NativeEndian.PutUint64(l.mem[headMagic:], ledgerMagic)
	binary.NativeEndian.PutUint32(l.mem[headVersion:], ledgerVersion)
	binary.NativeEndian.PutUint32(l.mem[headSlots:], ledgerSlots)
	return l, nil
}

// Why a ledger cannot be used.
var (
	errNoLedger      = errors.New("there is no ledger of them")
	errForeignLedger = errors.New("another version of chargegate kept them")
)

// openLedger takes the ledger of the process before this one. f is the ledger's
// from then on, unless there is an error.
func openLedger(f *os.File) (*ledger, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || seals&unix.F_SEAL_SHRINK == 0 || st.Size != ledgerSize {
		return nil, errForeignLedger
	}
	l, err := mapLedger(f)
	if err != nil {
		return nil, err
	}
	if binary.NativeEndian.Uint64(l.mem[headMagic:]) != ledgerMagic ||
		binary.NativeEndian.Uint32(l.mem[headVersion:]) != ledgerVersion ||
		binary.NativeEndian.Uint32(l.mem[headSlots:]) != ledgerSlots {
		_ = unix.Munmap(l.mem)
		return nil, errForeignLedger
	}
	return l, nil
}

func mapLedger(f *os.File) (*ledger, error) {
	mem, err := unix.Mmap(int(f.Fd()), 0, ledgerSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return &ledger{f, mem}, nil
}

// slot returns the bytes of one.
func (l *ledger) slot(i int) []byte {
	at := headerSize + i*slotSize
	return l.mem[at : at+slotSize : at+slotSize]
}

// The words in a slot that are changed while others may look.

func (l *ledger) state(i int) *atomic.Uint32 { return (*atomic.Uint32)(l.at(i, slotState)) }
func (l *ledger) moved(i int) *atomic.Int64  { return (*atomic.Int64)(l.at(i, slotMoved)) }
func (l *ledger) taken(i int) *atomic.Uint32 { return (*atomic.Uint32)(l.at(i, slotTaken)) }

// counts are the bytes that went each way, as the carrier counts them.
func (l *ledger) counts(i int) *carry.Counts { return (*carry.Counts)(l.at(i, slotCounts)) }

// saved is what of them the accounts on disk hold.
func (l *ledger) saved(i int) *savedCounts { return (*savedCounts)(l.at(i, slotSaved)) }

// at points into a slot. The mapping is aligned to pages, slots to 512 bytes.
func (l *ledger) at(i, offset int) unsafe.Pointer { return unsafe.Pointer(&l.slot(i)[offset]) }

// alive is when the daemon was last there.
func (l *ledger) alive() *atomic.Int64 { return (*atomic.Int64)(unsafe.Pointer(&l.mem[headAlive])) }

// clear makes a slot ready to be counted in.
func (l *ledger) clear(i int) {
	l.state(i).Store(slotFree)
	clear(l.slot(i)[slotSum:])
}

// fill writes what does not change into a slot, and marks it as used.
func (l *ledger) fill(i int, r record) error {
	s := l.slot(i)
	if err := r.encode(s[slotBegin:slotFixed]); err != nil {
		return err
	}
	binary.NativeEndian.PutUint32(s[slotSum:], crc32.ChecksumIEEE(s[slotBegin:slotFixed]))
	l.moved(i).CompareAndSwap(0, int64(r.opened)) // bytes may have moved since
	l.state(i).Store(slotUsed)
	return nil
}

// errBroken is the reason for whatever a process that crashed left in disorder.
var errBroken = errors.New("what was written of them is damaged")

// read returns what is in a used slot, or errBroken.
func (l *ledger) read(i int, now time.Duration) (record, error) {
	s := l.slot(i)
	if binary.NativeEndian.Uint32(s[slotSum:]) != crc32.ChecksumIEEE(s[slotBegin:slotFixed]) {
		return record{}, errBroken
	}
	r, err := decode(s[slotBegin:slotFixed], now)
	if c := l.counts(i); err == nil && (c.Up.Load() < 0 || c.Down.Load() < 0) {
		err = errBroken
	}
	return r, err
}

// The lengths of what is written last in a record.
const (
	maxBy   = 16
	maxName = 253
)

// noNetwork stands for the length of a prefix that is none.
const noNetwork = 255

// encode writes r. Its error says that a part of r is too long, which the list
// and decide never let through.
func (r record) encode(b []byte) error {
	if len(r.by) > maxBy || len(r.name) > maxName || !r.caller.Is4() || !r.remote.Addr().Is4() {
		return fmt.Errorf("the conversation of %s with %q at %s cannot be written down", r.caller, r.name, r.remote)
	}
	clear(b)
	for i, v := range []uint64{r.near, r.far, r.up, r.down, uint64(r.opened)} {
		binary.NativeEndian.PutUint64(b[8*i:], v)
	}
	b = b[40:]
	caller, remote := r.caller.As4(), r.remote.Addr().As4()
	copy(b[0:], caller[:])
	copy(b[4:], remote[:])
	binary.NativeEndian.PutUint16(b[8:], r.remote.Port())
	binary.NativeEndian.PutUint16(b[10:], r.port)
	copy(b[12:], r.share.mac[:])
	b[18] = noNetwork
	if p := r.share.network; p.IsValid() && p.Addr().Is4() {
		network := p.Addr().As4()
		b[18] = byte(p.Bits())
		copy(b[20:], network[:])
	}
	if r.plain {
		b[19] = 1
	}
	b[24], b[25] = byte(len(r.by)), byte(len(r.name))
	copy(b[26:26+maxBy], r.by)
	copy(b[26+maxBy:], r.name)
	return nil
}

// decode reads what encode wrote, and believes none of it. now is the time.
func decode(b []byte, now time.Duration) (record, error) {
	var r record
	var opened uint64
	for i, v := range []*uint64{&r.near, &r.far, &r.up, &r.down, &opened} {
		*v = binary.NativeEndian.Uint64(b[8*i:])
	}
	r.opened = time.Duration(opened)
	b = b[40:]
	r.caller = netip.AddrFrom4([4]byte(b[0:4]))
	r.remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.NativeEndian.Uint16(b[8:]))
	r.port = binary.NativeEndian.Uint16(b[10:])
	r.share.mac = charger.MAC(b[12:18])
	if bits := int(b[18]); bits != noNetwork {
		r.share.network = netip.PrefixFrom(netip.AddrFrom4([4]byte(b[20:24])), bits)
		if !r.share.network.IsValid() || r.share.network != r.share.network.Masked() {
			return record{}, errBroken
		}
	}
	r.plain = b[19] == 1
	by, name := int(b[24]), int(b[25])
	if by > maxBy || name > maxName || b[19] > 1 {
		return record{}, errBroken
	}
	r.by, r.name = string(b[26:26+by]), string(b[26+maxBy:26+maxBy+name])
	switch {
	case r.near == 0, r.far == 0, r.near == r.far, r.up == 0, r.down == 0, r.up == r.down,
		r.opened <= 0, r.opened > now, r.port == 0, r.remote.Port() == 0, !word(r.by), r.name == "", r.name != policy.Normal(r.name):
		return record{}, errBroken
	}
	return r, nil
}

// word reports whether s is one as decide has them.
func word(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c < 'a' || c > 'z' })
}
