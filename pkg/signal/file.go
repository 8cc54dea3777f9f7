package signal

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
)

// The file begins with one line, and what follows are pieces that are read one after
// the other. A piece is its length, a checksum (CRC-32C over the rest), and
// flate-compressed a letter and what it says:
//
//	H  hours: the first one, how many, the devices; for each device the hours'
//	   weakest signals, medians, strongest, and minutes present
//	M  minutes: the first one, how many, whether they are undated, the devices; for
//	   each device the minutes' medians, and then for each what was sent again
//	S  all from a minute on was so many minutes later
//
// Numbers are varints, signals bytes, each as its difference to the one before, so
// that what hardly changes hardly takes room. A device is its MAC and the signal
// down to which its fall was told.
//
// Every hour the minutes of that hour are appended. When the file has become four
// times as large as it was when it was last written anew, it is written anew: the
// hours, and the minutes of the last day.
//
// Where every signal wanders by a dB or two 250 chargers take 12 kB an hour: 0.3 MB
// a day, and 0.4 MB with the file written anew, which after 90 days has 1.1 MB and
// grows to 4.5. For 1000 chargers it is four times as much.
const (
	fileHead = "chargegate-signal 1\n"
	// maxPiece bounds what is unpacked: a day of minutes of as many devices as may be.
	maxPiece = maxDevices*(2*DayMinutes+8) + 64
	// pieceHours is how many hours a piece may have, so that it takes little memory.
	pieceHours = 10 * 24
	// maxFile bounds a file. The fullest there can be takes less.
	maxFile   = 96 << 20
	pieceHead = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal makes a piece.
func seal(body []byte) []byte {
	var b bytes.Buffer
	b.Write(make([]byte, pieceHead))
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err == nil {
		_, err = w.Write(body)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil { // memory takes whatever is written
		return nil
	}
	out := b.Bytes()
	binary.BigEndian.PutUint32(out, uint32(len(out)-pieceHead))
	binary.BigEndian.PutUint32(out[4:], crc32.Checksum(out[pieceHead:], castagnoli))
	return out
}

var (
	errTorn  = errors.New("its end is missing, as after a power cut")
	errWrong = errors.New("its checksum is wrong")
)

// unseal takes the first piece off, and returns what it says and how long it was.
func unseal(data []byte) (body []byte, n int, err error) {
	if len(data) < pieceHead {
		return nil, 0, errTorn
	}
	size := int64(binary.BigEndian.Uint32(data))
	if size > int64(len(data)-pieceHead) {
		return nil, 0, errTorn
	}
	packed := data[pieceHead : pieceHead+int(size)]
	if crc32.Checksum(packed, castagnoli) != binary.BigEndian.Uint32(data[4:]) {
		return nil, 0, errWrong
	}
	body, err = io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), maxPiece+1))
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("it cannot be unpacked: %w", err)
	case len(body) > maxPiece:
		return nil, 0, errors.New("a piece of it is too large")
	}
	return body, pieceHead + int(size), nil
}

// sorted are the devices that something is written of.
func (h *History) sorted(has func(*device) bool) []MAC {
	return slices.SortedFunc(func(yield func(MAC) bool) {
		for mac := range maps.Keys(h.of) {
			if has(h.of[mac]) && !yield(mac) {
				return
			}
		}
	}, func(x, y MAC) int { return slices.Compare(x[:], y[:]) })
}

func (h *History) putDevices(b []byte, macs []MAC) []byte {
	b = binary.AppendUvarint(b, uint64(len(macs)))
	for _, mac := range macs {
		b = append(b, mac[:]...)
		b = append(b, byte(h.of[mac].told))
	}
	return b
}

// putMinutes writes the minutes from the first up to, and not with, the last.
func (h *History) putMinutes(first, last int64, dated bool) []byte {
	n := last - first
	macs := h.sorted(func(d *device) bool {
		for i := first; i < last; i++ {
			if d.minuteAt(i).signal != 0 {
				return true
			}
		}
		return false
	})
	b := []byte{'M'}
	b = binary.AppendUvarint(b, uint64(first))
	b = binary.AppendUvarint(b, uint64(n))
	undated := byte(1)
	if dated {
		undated = 0
	}
	b = h.putDevices(append(b, undated), macs)
	for _, mac := range macs {
		b = column(b, n, func(i int64) byte { return byte(h.of[mac].minuteAt(first + i).signal) })
	}
	for _, mac := range macs {
		for i := first; i < last; i++ {
			b = append(b, h.of[mac].minuteAt(i).resent)
		}
	}
	return b
}

// hourColumns are the columns of hours in the file.
var hourColumns = [...]func(*hour) *int8{
	func(h *hour) *int8 { return &h.low }, func(h *hour) *int8 { return &h.mid }, func(h *hour) *int8 { return &h.high },
}

// putHours writes the hours from the first up to, and not with, the last.
func (h *History) putHours(first, last int64) []byte {
	n := last - first
	macs := h.sorted(func(d *device) bool {
		for i := first; i < last; i++ {
			if d.hourAt(i).present != 0 {
				return true
			}
		}
		return false
	})
	b := []byte{'H'}
	b = binary.AppendUvarint(b, uint64(first))
	b = binary.AppendUvarint(b, uint64(n))
	b = h.putDevices(b, macs)
	b = slices.Grow(b, len(macs)*4*int(n))
	for _, mac := range macs {
		for _, of := range hourColumns {
			b = column(b, n, func(i int64) byte { return byte(*of(h.of[mac].hourAt(first + i))) })
		}
		for i := first; i < last; i++ {
			b = append(b, h.of[mac].hourAt(i).present)
		}
	}
	return b
}

func putMove(m move) []byte {
	b := binary.AppendUvarint([]byte{'S'}, uint64(m.from))
	return binary.AppendVarint(b, m.by)
}

// column writes n bytes, each as its difference to the one before.
func column(b []byte, n int64, at func(int64) byte) []byte {
	was := byte(0)
	for i := range n {
		v := at(i)
		b = append(b, v-was)
		was = v
	}
	return b
}

// everything is the whole history as a file, up to the minute that runs.
func (h *History) everything() []byte {
	first := (h.head - DayMinutes + 60) / 60 * 60 // whole hours: they are made of their minutes again
	first = max(first, 0)
	data := []byte(fileHead)
	for from := max(0, h.head/60-QuarterHours+1); from < first/60; from += pieceHours {
		data = append(data, seal(h.putHours(from, min(from+pieceHours, first/60)))...)
	}
	turn := h.head // where those begin that have no date yet
	if !h.dated {
		turn = min(max(first, h.run), h.head)
	}
	if first < turn {
		data = append(data, seal(h.putMinutes(first, turn, true))...)
	}
	if turn < h.head {
		data = append(data, seal(h.putMinutes(turn, h.head, false))...)
	}
	return data
}

// A source reads what a piece says. Once it has failed it gives zeros.
type source struct {
	b   []byte
	err error
}

var errShort = errors.New("a piece of it ends too early")

func (s *source) uvarint() int64 {
	v, n := binary.Uvarint(s.b)
	if n <= 0 || v > far {
		s.fail(errShort)
		return 0
	}
	s.b = s.b[n:]
	return int64(v)
}

func (s *source) varint() int64 {
	v, n := binary.Varint(s.b)
	if n <= 0 || v > far || v < -far {
		s.fail(errShort)
		return 0
	}
	s.b = s.b[n:]
	return v
}

func (s *source) bytes(n int64) []byte {
	if s.err != nil || n > int64(len(s.b)) {
		s.fail(errShort)
		return make([]byte, min(n, maxPiece))
	}
	out := s.b[:n]
	s.b = s.b[n:]
	return out
}

// column reads what column wrote: signals, each with its kind of nothing.
func (s *source) column(n int64) []int8 {
	out := make([]int8, n)
	was := byte(0)
	for i, v := range s.bytes(n) {
		was += v
		out[i] = int8(was)
		if out[i] > 0 && out[i] != unheard || out[i] < lowest {
			s.fail(fmt.Errorf("%d dBm in it cannot be", out[i]))
		}
	}
	return out
}

func (s *source) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// span reads the first index and the number of what a piece holds.
func (s *source) span(unit, most int64) (first, n int64) {
	first, n = s.uvarint(), s.uvarint()
	if n > most || first > far/unit {
		s.fail(errors.New("it tells of a time that cannot be"))
		return 0, 0
	}
	return first, n
}

// devices reads a piece's devices, and takes them in.
func (h *History) devices(s *source) []*device {
	n := s.uvarint()
	if n > maxDevices {
		s.fail(errors.New("it holds too many devices"))
		n = 0
	}
	var out []*device
	for range n {
		mac, told := MAC(s.bytes(6)), int8(s.bytes(1)[0])
		if s.err != nil {
			return nil
		}
		d := h.of[mac]
		if d == nil {
			d = &device{}
			h.of[mac] = d
		}
		if len(h.of) > maxDevices || slices.Contains(out, d) || told > 0 || told < lowest {
			s.fail(errors.New("its devices cannot be"))
			return nil
		}
		d.told = told
		out = append(out, d)
	}
	return out
}

// read takes in what a piece says. After an error the history is good up to the
// piece before.
func (h *History) read(body []byte) error {
	if len(body) == 0 {
		return errShort
	}
	s := &source{b: body[1:]}
	switch body[0] {
	case 'H':
		h.readHours(s)
	case 'M':
		h.readMinutes(s)
	case 'S':
		h.readMove(s)
	default:
		s.fail(fmt.Errorf("a piece of it is of the kind %q, which is not known", body[0]))
	}
	if s.err == nil && len(s.b) > 0 {
		s.err = errors.New("a piece of it is longer than it says")
	}
	return s.err
}

func (h *History) readHours(s *source) {
	first, n := s.span(60, pieceHours)
	if first*60 < h.head {
		s.fail(errors.New("it goes back in time"))
		return
	}
	devices := h.devices(s)
	if s.err != nil || len(s.b) != len(devices)*4*int(n) {
		s.fail(errShort)
		return
	}
	read := make([][]hour, len(devices))
	for k := range devices {
		read[k] = make([]hour, n)
		for _, of := range hourColumns {
			for i, v := range s.column(n) {
				*of(&read[k][i]) = v
			}
		}
		for i, v := range s.bytes(n) {
			read[k][i].present = v
			if v > 60 || (v == 0) != (read[k][i].mid == 0) || (v == 0) != (read[k][i].low == 0) || (v == 0) != (read[k][i].high == 0) {
				s.fail(errors.New("it tells of an hour that cannot be"))
			}
		}
	}
	if s.err != nil {
		return
	}
	h.advanceLocked((first + n) * 60)
	for k, d := range devices {
		for i, v := range read[k] {
			*d.hourAt(first + int64(i)) = v
			if v.present > 0 {
				d.last = (first+int64(i))*60 + 59
			}
		}
	}
}

func (h *History) readMinutes(s *source) {
	first, n := s.span(1, DayMinutes)
	undated := s.bytes(1)[0]
	if first < h.head || undated > 1 {
		s.fail(errors.New("it goes back in time"))
		return
	}
	devices := h.devices(s)
	if s.err != nil || len(s.b) != len(devices)*2*int(n) {
		s.fail(errShort)
		return
	}
	signals := make([][]int8, len(devices))
	for k := range devices {
		signals[k] = s.column(n)
	}
	resent := make([][]byte, len(devices))
	for k := range devices {
		resent[k] = s.bytes(n)
		for i, v := range resent[k] {
			if v > 100 && v != untold || signals[k][i] == 0 && v != 0 {
				s.fail(errors.New("more was sent again in it than sent"))
			}
		}
	}
	if s.err != nil {
		return
	}
	if undated == 1 && h.dated {
		h.run = first
	}
	h.dated = undated == 0
	for at := first; at < first+n; {
		end := min(first+n, (at/60+1)*60) // hours are made when they are full
		h.advanceLocked(end - 1)
		for k, d := range devices {
			for i := at; i < end; i++ {
				if v := signals[k][i-first]; v != 0 {
					*d.minuteAt(i) = minute{v, resent[k][i-first]}
					d.last = i
				}
			}
		}
		at = end
	}
	h.advanceLocked(first + n)
}

func (h *History) readMove(s *source) {
	m := move{s.uvarint(), s.varint()}
	if to := max(h.head, m.from) + m.by; s.err != nil || to < 0 || to > far {
		s.fail(errors.New("it tells of a time that cannot be"))
		return
	}
	h.advanceLocked(m.from) // nobody was heard until then, or it was not written down
	h.shiftLocked(m)
	h.moves = nil
	h.run, h.dated = h.run+m.by, true
}
