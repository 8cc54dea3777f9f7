package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"
)

// A card is a disk that forgets, as an SD card does: what was written lasts only
// once the guest has asked for it, by a flush or by a write that says so itself
// (FUA). Until then it is in the card's own memory, and at a cut of the power a part
// of it is lost, whichever the dice say, also the half of one write.
//
// QEMU reaches it as a network block device (NBD, fixed newstyle negotiation) on a
// unix socket. A sector is never torn, a write is between any two.
//
// https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
type card struct {
	file *os.File // what lasts
	size int64

	mu     sync.Mutex
	waits  []write           // not flushed yet, in their order
	newest map[int64][]byte  // of those, what each sector holds, by its number
	held   int               // bytes in waits
	done   cardCounts        // since the card was opened
	conns  map[net.Conn]bool // open ones
	ln     net.Listener      // nil: without power
	all    sync.WaitGroup    // of the goroutines that serve
	memory int               // how many bytes it holds at most
}

// A write is one that was answered. A trim is a write of zeros here.
type write struct {
	at   int64
	data []byte
	sure bool // it lasts already (FUA)
}

// cardCounts tell what a guest has asked for.
type cardCounts struct{ Reads, Writes, Flushes, Sure, Trims int }

// A cutCount is what a cut has cost: how many writes waited, and how many of them
// were lost whole or in part.
type cutCount struct{ Waiting, Lost, Torn int }

const (
	sector = 512
	// cardMemory is what a card holds back at most. What comes beyond pushes out the
	// oldest, which lasts then.
	cardMemory = 64 << 20
)

// openCard opens an image, of whole sectors, as a card.
func openCard(path string) (*card, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size()%sector != 0 {
		err = fmt.Errorf("%s has %d bytes, want a multiple of %d", path, info.Size(), sector)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &card{file: f, size: info.Size(), newest: map[int64][]byte{}, conns: map[net.Conn]bool{}, memory: cardMemory}, nil
}

// power lets the card answer on a unix socket.
func (c *card) power(socket string) error {
	ln, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ln = ln
	c.all.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // the power is off
			}
			c.welcome(ln, conn)
		}
	})
	return nil
}

// welcome serves one connection, unless the power has gone meanwhile.
func (c *card) welcome(ln net.Listener, conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ln != ln {
		conn.Close()
		return
	}
	c.conns[conn] = true
	c.all.Go(func() {
		defer func() {
			conn.Close()
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.conns, conn)
		}()
		c.serve(conn)
	})
}

// dark takes the power away: no more is heard, and what was being asked is not
// answered. What waits is neither written nor lost yet.
func (c *card) dark() {
	c.mu.Lock()
	if c.ln != nil {
		c.ln.Close()
		c.ln = nil
	}
	for conn := range c.conns {
		conn.Close()
	}
	c.mu.Unlock()
	c.all.Wait()
}

// untilWaiting waits until there is something that nobody has flushed, but not for
// longer than it may.
func (c *card) untilWaiting(within time.Duration) {
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		c.mu.Lock()
		n := len(c.waits)
		c.mu.Unlock()
		if n > 0 {
			return
		}
	}
}

// cut takes the power away and loses a part of what waited: of every write nothing,
// all of it, or some sectors. A nil dice loses nothing.
func (c *card) cut(dice *rand.Rand) (n cutCount, err error) {
	c.dark()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.waits {
		keep := len(w.data) / sector
		if !w.sure {
			n.Waiting++
			if dice != nil {
				keep = c.luck(dice, w, &n)
			}
		}
		if keep == len(w.data)/sector {
			_, werr := c.file.WriteAt(w.data, w.at)
			err = errors.Join(err, werr)
			continue
		}
		for i, kept := 0, 0; kept < keep; i++ {
			// The sectors that remain are any, and not always the first.
			if left := len(w.data)/sector - i; dice.IntN(left) < keep-kept {
				_, werr := c.file.WriteAt(w.data[i*sector:(i+1)*sector], w.at+int64(i*sector))
				err = errors.Join(err, werr)
				kept++
			}
		}
	}
	c.forgetLocked()
	return n, err
}

// luck says how many sectors of a write survive.
func (c *card) luck(dice *rand.Rand, w write, n *cutCount) int {
	sectors := len(w.data) / sector
	switch dice.IntN(4) {
	case 0: // half of the writes survive
		n.Lost++
		return 0
	case 1:
		if sectors == 1 {
			n.Lost++
			return 0
		}
		n.Torn++
		return 1 + dice.IntN(sectors-1)
	}
	return sectors
}

// close writes down everything, as a card does that is taken out with care.
func (c *card) close() error {
	c.dark()
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.flushLocked(), c.file.Close())
}

func (c *card) counts() cardCounts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

// flushLocked makes everything last.
func (c *card) flushLocked() error {
	for _, w := range c.waits {
		if _, err := c.file.WriteAt(w.data, w.at); err != nil {
			return err
		}
	}
	c.forgetLocked()
	return nil
}

func (c *card) forgetLocked() {
	c.waits, c.held = nil, 0
	clear(c.newest)
}

func (c *card) read(at int64, buf []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done.Reads++
	if _, err := c.file.ReadAt(buf, at); err != nil {
		return err
	}
	for i := 0; i < len(buf) && len(c.newest) > 0; i += sector {
		if data, ok := c.newest[(at+int64(i))/sector]; ok {
			copy(buf[i:], data)
		}
	}
	return nil
}

// write takes what the caller gives up.
func (c *card) write(w write) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done.Writes++
	if w.sure {
		c.done.Sure++
	}
	c.waits = append(c.waits, w)
	c.held += len(w.data)
	for i := 0; i < len(w.data); i += sector {
		c.newest[(w.at+int64(i))/sector] = w.data[i : i+sector]
	}
	for c.held > c.memory {
		if err := c.oldestLocked(); err != nil {
			return err
		}
	}
	return nil
}

// oldestLocked makes the write that has waited longest last. What has been written
// over it meanwhile stays newer.
func (c *card) oldestLocked() error {
	w := c.waits[0]
	if _, err := c.file.WriteAt(w.data, w.at); err != nil {
		return err
	}
	c.waits = c.waits[1:]
	c.held -= len(w.data)
	for i := 0; i < len(w.data); i += sector {
		n := (w.at + int64(i)) / sector
		if now := c.newest[n]; len(now) > 0 && &now[0] == &w.data[i] {
			delete(c.newest, n)
		}
	}
	return nil
}

// What the protocol calls things.
const (
	nbdGreeting     = "NBDMAGICIHAVEOPT"
	nbdOption       = 0x49484156454F5054 // IHAVEOPT
	nbdOptionAnswer = 0x3e889045565a9
	nbdRequest      = 0x25609513
	nbdAnswer       = 0x67446698

	nbdFixedNewstyle, nbdNoZeroes = 1, 2

	optExportName, optAbort, optInfo, optGo        = 1, 2, 6, 7
	repACK, repInfo, repUnsupported, repInvalid    = 1, 3, 1<<31 + 1, 1<<31 + 3
	infoExport, infoBlockSize                      = 0, 3
	hasFlags, sendFlush, sendFUA, sendTrim         = 1, 4, 8, 32
	cmdRead, cmdWrite, cmdLeave, cmdFlush, cmdTrim = 0, 1, 2, 3, 4
	cmdFUA                                         = 1
	errIO, errInvalid                              = 5, 22

	nbdMost = 32 << 20 // the longest request
)

// serve speaks with one client until it leaves.
func (c *card) serve(conn net.Conn) {
	if ok := c.negotiate(conn); !ok {
		return
	}
	for {
		var r struct {
			Magic       uint32
			Flags, Kind uint16
			Cookie, At  uint64
			Length      uint32
		}
		if binary.Read(conn, binary.BigEndian, &r) != nil || r.Magic != nbdRequest || r.Length > nbdMost && r.Kind != cmdTrim || r.Kind == cmdLeave {
			return
		}
		var data []byte
		if r.Kind == cmdWrite {
			data = make([]byte, r.Length)
			if _, err := io.ReadFull(conn, data); err != nil {
				return
			}
		}
		answer, code := c.answer(r.Kind, r.Flags&cmdFUA != 0, r.At, r.Length, data)
		out := binary.BigEndian.AppendUint32(nil, nbdAnswer)
		out = binary.BigEndian.AppendUint32(out, code)
		out = binary.BigEndian.AppendUint64(out, r.Cookie)
		if _, err := conn.Write(append(out, answer...)); err != nil {
			return
		}
	}
}

// answer does what a client asks for, and returns what it gets: data and an error's
// number, 0 when there is none.
func (c *card) answer(kind uint16, sure bool, at uint64, length uint32, data []byte) ([]byte, uint32) {
	end := at + uint64(length)
	if kind != cmdFlush && (at%sector != 0 || length%sector != 0 || length == 0 || end < at || end > uint64(c.size)) {
		return nil, errInvalid
	}
	var err error
	switch kind {
	case cmdRead:
		data = make([]byte, length)
		if err = c.read(int64(at), data); err == nil {
			return data, 0
		}
	case cmdWrite:
		err = c.write(write{int64(at), data, sure})
	case cmdTrim:
		err = c.trim(int64(at), int64(end), sure)
	case cmdFlush:
		c.mu.Lock()
		c.done.Flushes++
		err = c.flushLocked()
		c.mu.Unlock()
	default:
		return nil, errInvalid
	}
	if err != nil {
		return nil, errIO
	}
	return nil, 0
}

// trim gives a range back, which reads as zeros from then on.
func (c *card) trim(at, end int64, sure bool) error {
	const piece = 1 << 20
	for ; at < end; at += piece {
		if err := c.write(write{at, make([]byte, min(piece, end-at)), sure}); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done.Trims++
	return nil
}

// negotiate goes as far as the first request. There is one export, whatever name it
// is asked for by.
func (c *card) negotiate(conn net.Conn) (ok bool) {
	if _, err := conn.Write(binary.BigEndian.AppendUint16([]byte(nbdGreeting), nbdFixedNewstyle|nbdNoZeroes)); err != nil {
		return false
	}
	var flags uint32
	if binary.Read(conn, binary.BigEndian, &flags) != nil {
		return false
	}
	for {
		var o struct {
			Magic        uint64
			Kind, Length uint32
		}
		if binary.Read(conn, binary.BigEndian, &o) != nil || o.Magic != nbdOption || o.Length > 64<<10 {
			return false
		}
		data := make([]byte, o.Length)
		if _, err := io.ReadFull(conn, data); err != nil {
			return false
		}
		var out []byte
		begin := false
		switch o.Kind {
		case optExportName:
			out, begin = c.export(), true
			if flags&nbdNoZeroes == 0 {
				out = append(out, make([]byte, 124)...)
			}
		case optAbort:
			conn.Write(optionAnswer(o.Kind, repACK, nil))
			return false
		case optInfo, optGo:
			if !wellAsked(data) {
				out = optionAnswer(o.Kind, repInvalid, nil)
				break
			}
			about := binary.BigEndian.AppendUint16(nil, infoExport)
			sizes := binary.BigEndian.AppendUint16(nil, infoBlockSize)
			for _, n := range []uint32{sector, 4096, nbdMost} { // least, best and most
				sizes = binary.BigEndian.AppendUint32(sizes, n)
			}
			out = bytes.Join([][]byte{optionAnswer(o.Kind, repInfo, append(about, c.export()...)),
				optionAnswer(o.Kind, repInfo, sizes), optionAnswer(o.Kind, repACK, nil)}, nil)
			begin = o.Kind == optGo
		default:
			out = optionAnswer(o.Kind, repUnsupported, nil)
		}
		if _, err := conn.Write(out); err != nil {
			return false
		}
		if begin {
			return true
		}
	}
}

// export is the size and what the card can do.
func (c *card) export() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(c.size))
	return binary.BigEndian.AppendUint16(b, hasFlags|sendFlush|sendFUA|sendTrim)
}

// wellAsked says whether the length of the name and the number of questions in a
// request for information agree with its length.
func wellAsked(data []byte) bool {
	if len(data) < 6 {
		return false
	}
	name := uint64(binary.BigEndian.Uint32(data))
	if uint64(len(data)) < 6+name {
		return false
	}
	questions := binary.BigEndian.Uint16(data[4+name:])
	return uint64(len(data)) == 6+name+2*uint64(questions)
}

func optionAnswer(option, kind uint32, data []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, nbdOptionAnswer)
	b = binary.BigEndian.AppendUint32(b, option)
	b = binary.BigEndian.AppendUint32(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}
