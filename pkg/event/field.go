package event

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The names of the subject's fields. Together they answer "whose story is it".
const (
	KeyCharger = "CHARGER" // the parking space from the inventory
	KeyMAC     = "MAC"
	KeyIP      = "IP"
	KeyNetwork = "NETWORK"
)

// maxValue is the longest value a field may have, in bytes, after escaping. A
// stranger chooses hostnames and the names it asks for; the log stays readable.
const maxValue = 255

// A Field is one fact of an event. Keys are upper-case words ([A-Z][A-Z0-9_]*),
// as the journal wants them; values are always safe to print on one line.
type Field struct{ Key, Value string }

// F makes a field. Text from strangers may be given as it is: whatever cannot
// be printed is escaped, and what is too long is cut.
func F(key string, value any) Field {
	var s string
	switch v := value.(type) {
	case string:
		s = v
	case error:
		s = v.Error()
	case time.Duration:
		s = Duration(v)
	case fmt.Stringer:
		s = v.String()
	default:
		s = fmt.Sprint(v)
	}
	return Field{Key: key, Value: clean(s)}
}

// MAC names the subject by its hardware address.
func MAC(hw [6]byte) Field {
	return Field{Key: KeyMAC, Value: net.HardwareAddr(hw[:]).String()}
}

// IP names the subject by its address.
func IP(addr netip.Addr) Field {
	if !addr.IsValid() {
		return Field{Key: KeyIP}
	}
	return Field{Key: KeyIP, Value: addr.Unmap().String()}
}

// Network names the network of the configuration that the event belongs to.
func Network(name string) Field { return F(KeyNetwork, name) }

// Err is the cause, as ERROR=.
func Err(err error) Field { return F("ERROR", err) }

// Duration writes a duration as a technician would: 12h, 90s, 4m30s, 12.3ms.
func Duration(d time.Duration) string {
	switch {
	case d >= time.Minute:
		d = d.Round(time.Second)
	case d >= time.Second:
		d = d.Round(10 * time.Millisecond)
	default:
		d = d.Round(10 * time.Microsecond)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// clean makes any text printable on one line and cuts it to maxValue bytes.
func clean(s string) string {
	if printable(s) && len(s) <= maxValue {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		var piece string
		switch {
		case r == utf8.RuneError && size == 1:
			piece = fmt.Sprintf(`\x%02x`, s[i])
		case unicode.IsPrint(r):
			piece = s[i : i+size]
		default:
			q := strconv.QuoteRuneToASCII(r)
			piece = q[1 : len(q)-1]
		}
		if b.Len()+len(piece) > maxValue-len("…") {
			b.WriteString("…")
			break
		}
		b.WriteString(piece)
		i += size
	}
	return b.String()
}

func printable(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
