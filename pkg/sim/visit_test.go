package sim

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"
)

// TestHearCount takes nothing but every number, once and in its order.
func TestHearCount(t *testing.T) {
	const topic = "devices/s1/count"
	said := func(numbers ...uint64) (b []byte) {
		for _, n := range numbers {
			b = append(b, mqttPacket(mqttPublish, 0, binary.BigEndian.AppendUint64(mqttString(nil, topic), n))...)
		}
		return b
	}
	for _, tt := range []struct {
		name  string
		hears []byte
		heard uint64
		err   string // part of it
	}{
		{"all of them", said(1, 2, 3), 3, ""},
		{"the last one is missing", said(1, 2), 2, "number 3 did not come back"},
		{"one in between is missing", said(1, 3), 1, "number 3 came in the place of number 2"},
		{"one comes twice", said(1, 1, 2, 3), 1, "number 1 came in the place of number 2"},
		{"two change places", said(2, 1, 3), 0, "number 2 came in the place of number 1"},
		{"one is cut off", said(1, 2, 3)[:60], 2, "number 3 did not come back"},
		{"something else comes", append(said(1), pingPacket()...), 1, "in the place of number 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &Session{id: "s1", in: bufio.NewReader(bytes.NewReader(tt.hears))}
			all := make(chan spoken, 3)
			for n := range uint64(3) {
				all <- spoken{n + 1, time.Now()}
			}
			close(all)
			heard := uint64(0)
			err := s.hearCount(topic, all, func(n uint64, _ time.Duration) { heard = n })
			if heard != tt.heard || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("heard %d, %v; want %d, %q", heard, err, tt.heard, tt.err)
			}
		})
	}
}
