package sim

import (
	"encoding/binary"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

// Where things stand in the frames of a crowd: Ethernet, IPv4 without options,
// UDP, DHCP.
const (
	atIP      = 14
	atUDP     = atIP + 20
	atDHCP    = atUDP + 8
	atOptions = atDHCP + 240
	crowdSize = atDHCP + 308 // lwIP fills up its messages to that, and so do most
)

// A crowdFrame is one message of one client, written over for the next one: a
// crowd of thousands leaves nothing behind for the collector.
type crowdFrame struct {
	buf [crowdSize]byte
	n   int // of the options so far
}

// The addresses of who has none and of everybody.
var nobodyIP, everybodyIP = [4]byte{}, [4]byte{255, 255, 255, 255}

// begin writes all that is before the options. The checksum of UDP is left out,
// which IPv4 allows.
func (f *crowdFrame) begin(mac [6]byte, xid uint32, seconds uint16, kind dhcpv4.MessageType) {
	clear(f.buf[:])
	b := f.buf[:]
	copy(b[0:], broadcastMAC[:])
	copy(b[6:], mac[:])
	binary.BigEndian.PutUint16(b[12:], unix.ETH_P_IP)
	b[atIP], b[atIP+8], b[atIP+9] = 0x45, 255, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(b[atIP+2:], crowdSize-atIP)
	binary.BigEndian.PutUint16(b[atUDP:], dhcpv4.ClientPort)
	binary.BigEndian.PutUint16(b[atUDP+2:], dhcpv4.ServerPort)
	binary.BigEndian.PutUint16(b[atUDP+4:], crowdSize-atUDP)
	d := b[atDHCP:]
	d[0], d[1], d[2] = 1, 1, 6 // a request, Ethernet, six bytes
	binary.BigEndian.PutUint32(d[4:], xid)
	binary.BigEndian.PutUint16(d[8:], seconds)
	copy(d[28:], mac[:])
	copy(d[236:], []byte{99, 130, 83, 99})
	f.n = atOptions
	f.option(dhcpv4.OptionDHCPMessageType, byte(kind))
	f.option(dhcpv4.OptionClientIdentifier, 1, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5])
	f.n += copy(f.buf[f.n:], hostnameOption)
	f.option(dhcpv4.OptionMaximumDHCPMessageSize, 5, 220)
	f.option(dhcpv4.OptionParameterRequestList, 1, 3, 28, 6)
}

// hostnameOption is option 12 as every Zaptec Go sends it (F-3).
var hostnameOption = append([]byte{12, byte(len(hostname))}, hostname...)

func (f *crowdFrame) option(code dhcpv4.OptionCode, value ...byte) {
	f.buf[f.n], f.buf[f.n+1] = code.Code(), byte(len(value))
	f.n += 2 + copy(f.buf[f.n+2:], value)
}

// wants is option 50, and chose option 54.
func (f *crowdFrame) wants(addr [4]byte)   { f.option(dhcpv4.OptionRequestedIPAddress, addr[:]...) }
func (f *crowdFrame) chose(server [4]byte) { f.option(dhcpv4.OptionServerIdentifier, server[:]...) }

// renews makes it a message of a client that uses its address, to its server
// alone.
func (f *crowdFrame) renews(addr, server [4]byte, serverMAC [6]byte) {
	copy(f.buf[atDHCP+12:], addr[:])
	copy(f.buf[0:], serverMAC[:])
	f.address(addr, server)
}

// address writes who sends to whom.
func (f *crowdFrame) address(from, to [4]byte) {
	copy(f.buf[atIP+12:], from[:])
	copy(f.buf[atIP+16:], to[:])
}

// end ends the options and returns the frame, which is good until the next
// begin.
func (f *crowdFrame) end() []byte {
	f.buf[f.n] = 255
	ip := f.buf[atIP:atUDP]
	binary.BigEndian.PutUint16(ip[10:], 0)
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	return f.buf[:]
}

// A crowdReply is what matters here of a message to a client.
type crowdReply struct {
	kind      dhcpv4.MessageType
	xid       uint32
	mac       [6]byte
	addr      [4]byte // yiaddr
	server    [4]byte // option 54
	serverMAC [6]byte
}

// parseCrowdReply reads a frame without leaving anything behind. ok is false
// when it is no answer of a DHCP server, or goes to another device than the one
// that it is about.
func parseCrowdReply(f []byte) (r crowdReply, ok bool) {
	d := dhcpPayload(f)
	if len(d) < 240 || d[0] != 2 || binary.BigEndian.Uint32(d[236:]) != 0x63825363 {
		return r, false
	}
	r.xid = binary.BigEndian.Uint32(d[4:])
	r.mac, r.addr, r.serverMAC = [6]byte(d[28:]), [4]byte(d[16:]), [6]byte(f[6:])
	if to := [6]byte(f); to != r.mac && to != broadcastMAC {
		return r, false
	}
	for o := d[240:]; len(o) > 1 && o[0] != 255; {
		if o[0] == 0 {
			o = o[1:]
			continue
		}
		size := int(o[1])
		if len(o) < 2+size {
			return r, false
		}
		switch value := o[2 : 2+size]; {
		case o[0] == dhcpv4.OptionDHCPMessageType.Code() && size == 1:
			r.kind = dhcpv4.MessageType(value[0])
		case o[0] == dhcpv4.OptionServerIdentifier.Code() && size == 4:
			r.server = [4]byte(value)
		}
		o = o[2+size:]
	}
	return r, r.kind != 0
}
