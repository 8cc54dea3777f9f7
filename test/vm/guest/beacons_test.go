package main

import (
	"encoding/binary"
	"testing"
	"time"
)

// TestBeacons counts what is missing by the radio's own clock.
func TestBeacons(t *testing.T) {
	const interval = 102400
	for _, tt := range []struct {
		name    string
		clocks  []uint64
		missing int
		longest time.Duration
	}{
		{"one after the other", []uint64{interval, 2 * interval, 3 * interval}, 0, 102400 * time.Microsecond},
		{"a little late", []uint64{interval, 2*interval + 40000, 3 * interval}, 0, 142400 * time.Microsecond},
		{"one missing", []uint64{interval, 3 * interval, 4 * interval}, 1, 204800 * time.Microsecond},
		{"three missing in all", []uint64{interval, 3 * interval, 6 * interval}, 3, 307200 * time.Microsecond},
		{"the radio began anew", []uint64{50 * interval, interval, 2 * interval}, 0, 102400 * time.Microsecond},
	} {
		l := listener{last: map[[6]byte]uint64{}}
		for _, c := range tt.clocks {
			from, clock, every, ok := beacon(aBeacon(c, 100))
			if !ok || every != interval || from != [6]byte{2, 0, 0, 0, 0, 1} {
				t.Fatalf("%s: read %x, %d, %d, %v", tt.name, from, clock, every, ok)
			}
			l.heard(from, clock, every)
		}
		if l.seen.Missing != tt.missing || l.seen.Longest != tt.longest || l.seen.Heard != len(tt.clocks) {
			t.Errorf("%s: %+v, want %d missing and %s", tt.name, l.seen, tt.missing, tt.longest)
		}
	}
}

// TestOtherFrames are passed over, whole or not.
func TestOtherFrames(t *testing.T) {
	whole := aBeacon(1, 100)
	for n := range whole {
		if _, _, _, ok := beacon(whole[:n]); ok {
			t.Errorf("%d bytes of a beacon were taken for one", n)
		}
	}
	whole[8] = 0x88 // data
	if _, _, _, ok := beacon(whole); ok {
		t.Error("data was taken for a beacon")
	}
}

// aBeacon is a beacon behind a short radiotap header.
func aBeacon(clock uint64, timeUnits uint16) []byte {
	f := make([]byte, 8+24+10)
	f[2], f[8] = 8, 0x80
	copy(f[8+10:], []byte{2, 0, 0, 0, 0, 1})
	binary.LittleEndian.PutUint64(f[8+24:], clock)
	binary.LittleEndian.PutUint16(f[8+32:], timeUnits)
	return f
}
