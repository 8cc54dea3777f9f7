package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"chargegate/test/vm/wire"
)

// A listener hears every frame that a simulated radio sends, and counts beacons.
type listener struct {
	mu   sync.Mutex
	conn *packet.Conn
	last map[[6]byte]uint64 // the radio's clock in its last beacon, in microseconds
	seen wire.Beacons
}

var ear listener

// beacons answers what was on the air since it was asked last.
func beacons(context.Context, json.RawMessage) (any, error) {
	ear.mu.Lock()
	defer ear.mu.Unlock()
	if ear.conn == nil {
		if err := ear.open(); err != nil {
			return nil, err
		}
	}
	seen := ear.seen
	ear.seen = wire.Beacons{}
	return seen, nil
}

// open begins to listen, on the interface where the kernel shows what all of its
// simulated radios send.
func (l *listener) open() error {
	if out, err := exec.Command("ip", "link", "set", "hwsim0", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("listening to the air: %w: %s", err, out)
	}
	ifi, err := net.InterfaceByName("hwsim0")
	if err != nil {
		return err
	}
	if l.conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil); err != nil {
		return fmt.Errorf("listening to the air: %w", err)
	}
	l.last = map[[6]byte]uint64{}
	go l.listen(l.conn) // ends with the agent
	return nil
}

func (l *listener) listen(conn *packet.Conn) {
	frame := make([]byte, 4096)
	for {
		n, _, err := conn.ReadFrom(frame)
		if err != nil {
			return
		}
		if from, clock, interval, ok := beacon(frame[:n]); ok {
			l.mu.Lock()
			l.heard(from, clock, interval)
			l.mu.Unlock()
		}
	}
}

// heard counts a beacon.
func (l *listener) heard(from [6]byte, clock, interval uint64) {
	last, known := l.last[from]
	l.last[from] = clock
	l.seen.Heard++
	if !known || clock <= last || interval == 0 {
		return // the radio's clock began anew
	}
	gap := clock - last
	l.seen.Missing += int((gap+interval/2)/interval) - 1
	l.seen.Longest = max(l.seen.Longest, time.Duration(gap)*time.Microsecond)
}

// beacon reads a beacon behind its radiotap header (IEEE 802.11, 9.3.3.2): who
// sent it, its clock, and how often it means to send one; both in microseconds.
func beacon(frame []byte) (from [6]byte, clock, interval uint64, ok bool) {
	const header, fixed, timeUnit = 24, 10, 1024
	if len(frame) < 4 {
		return from, 0, 0, false
	}
	skip := int(binary.LittleEndian.Uint16(frame[2:]))
	if len(frame) < skip+header+fixed || frame[skip] != 0x80 {
		return from, 0, 0, false
	}
	f := frame[skip:]
	copy(from[:], f[10:16])
	return from, binary.LittleEndian.Uint64(f[header:]), uint64(binary.LittleEndian.Uint16(f[header+8:])) * timeUnit, true
}
