package sim

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// The few packets of MQTT 3.1.1 that a charger needs (OASIS mqtt-v3.1.1,
// section 3), and no more.
const (
	mqttConnect   = 1
	mqttConnAck   = 2
	mqttPublish   = 3
	mqttPubAck    = 4
	mqttSubscribe = 8
	mqttSubAck    = 9
	mqttPingReq   = 12
	mqttPingResp  = 13
)

// maxMQTT bounds what a charger takes in one packet; the firmware's buffer is
// not larger.
const maxMQTT = 64 << 10

// mqttPacket puts a packet together: type and flags, length, body.
func mqttPacket(kind, flags byte, body []byte) []byte {
	p := []byte{kind<<4 | flags}
	n := len(body)
	for {
		b := byte(n & 127)
		if n >>= 7; n > 0 {
			p = append(p, b|128)
			continue
		}
		return append(append(p, b), body...)
	}
}

// readMQTT reads one packet.
func readMQTT(r *bufio.Reader) (kind byte, body []byte, err error) {
	first, err := r.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	n := 0
	for shift := 0; ; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, nil, unexpected(err)
		}
		n |= int(b&127) << shift
		if b < 128 {
			break
		}
		if shift == 21 {
			return 0, nil, errors.New("an MQTT packet's length does not end")
		}
	}
	if n > maxMQTT {
		return 0, nil, fmt.Errorf("an MQTT packet of %d bytes", n)
	}
	body = make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, unexpected(err)
	}
	return first >> 4, body, nil
}

// unexpected is err, or what the end of a stream means within a packet.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func mqttString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// connectPacket is a charger's CONNECT to Azure IoT Hub: a clean session, the
// serial as client id, and a password that holds for 7 days.
func connectPacket(serial string, keepAlive time.Duration, password string) []byte {
	const user, pass, clean = 0x80, 0x40, 0x02
	body := mqttString(nil, "MQTT")
	body = append(body, 4, user|pass|clean)
	body = binary.BigEndian.AppendUint16(body, uint16(keepAlive/time.Second))
	body = mqttString(body, serial)
	body = mqttString(body, Hub+"/"+serial+"/?api-version=2018-06-30")
	return mqttPacket(mqttConnect, 0, mqttString(body, password))
}

// subscribePacket asks for everything below a topic, with QoS 0.
func subscribePacket(id uint16, topic string) []byte {
	body := mqttString(binary.BigEndian.AppendUint16(nil, id), topic)
	return mqttPacket(mqttSubscribe, 2, append(body, 0))
}

// publishPacket tells something, and wants it acknowledged (QoS 1).
func publishPacket(id uint16, topic, text string) []byte {
	body := binary.BigEndian.AppendUint16(mqttString(nil, topic), id)
	return mqttPacket(mqttPublish, 2, append(body, text...))
}

func pingPacket() []byte { return mqttPacket(mqttPingReq, 0, nil) }
