package egress

import (
	"io"
	"net"
	"time"
)

// reset ends a connection with a TCP reset: the other side knows at once that
// nothing comes any more (F-5).
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

// alert is the fatal TLS alert unrecognized_name in a record of that version
// (RFC 8446, 5.1 and 6.2; RFC 6066, 3).
func alert(version uint16) []byte {
	const recordAlert, fatal, unrecognizedName = 21, 2, 112
	return []byte{recordAlert, byte(version >> 8), byte(version), 0, 2, fatal, unrecognizedName}
}

// lingering bounds the wait for the other side to read the alert and hang up.
const lingering = time.Second

// refuse tells a TLS caller that the name is not known here, and closes. What
// it still sends is read away for a moment: closing with bytes unread makes
// the kernel send a reset, and some stacks then forget the alert.
func refuse(conn *net.TCPConn, version uint16) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(lingering))
	if _, err := conn.Write(alert(version)); err != nil {
		return
	}
	_ = conn.CloseWrite()
	_, _ = io.Copy(io.Discard, io.LimitReader(conn, 64<<10))
}
