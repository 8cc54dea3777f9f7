package sim

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMQTTPackets(t *testing.T) {
	for name, c := range map[string]struct {
		packet []byte
		kind   byte
		want   string
	}{
		"connect": {connectPacket("ZAP1", 300*time.Second, "pw"), mqttConnect,
			"\x00\x04MQTT\x04\xc2\x01\x2c\x00\x04ZAP1\x00\x37zapcloud.azure-devices.net/ZAP1/?api-version=2018-06-30\x00\x02pw"},
		"subscribe": {subscribePacket(1, "a/#"), mqttSubscribe, "\x00\x01\x00\x03a/#\x00"},
		"publish":   {publishPacket(7, "a", "hello"), mqttPublish, "\x00\x01a\x00\x07hello"},
		"ping":      {pingPacket(), mqttPingReq, ""},
	} {
		kind, body, err := readMQTT(bufio.NewReader(bytes.NewReader(c.packet)))
		if err != nil || kind != c.kind {
			t.Errorf("%s: read back as type %d, %v, want %d", name, kind, err, c.kind)
		}
		if diff := cmp.Diff(c.want, string(body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestMQTTLongPacket(t *testing.T) {
	body := bytes.Repeat([]byte("x"), 20000)
	_, got, err := readMQTT(bufio.NewReader(bytes.NewReader(mqttPacket(mqttPublish, 0, body))))
	if err != nil || !bytes.Equal(got, body) {
		t.Errorf("20000 bytes were read back as %d, %v", len(got), err)
	}
}

func TestMQTTFaults(t *testing.T) {
	for name, c := range map[string]struct {
		bytes []byte
		want  error
	}{
		"nothing":                   {nil, io.EOF},
		"ends after the type":       {[]byte{0x20}, io.ErrUnexpectedEOF},
		"ends within the body":      {[]byte{0x20, 2, 0}, io.ErrUnexpectedEOF},
		"a length without an end":   {[]byte{0x20, 0xff, 0xff, 0xff, 0xff, 1}, nil},
		"more than the buffer hold": {[]byte{0x30, 0xff, 0xff, 0x7f}, nil},
	} {
		_, _, err := readMQTT(bufio.NewReader(bytes.NewReader(c.bytes)))
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func FuzzReadMQTT(f *testing.F) {
	f.Add(connectPacket("ZAP1", time.Minute, "pw"))
	f.Add([]byte{0x20, 2, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		kind, body, err := readMQTT(bufio.NewReader(bytes.NewReader(data)))
		if err == nil && (kind > 15 || len(body) > len(data)) {
			t.Errorf("type %d with %d bytes out of %d", kind, len(body), len(data))
		}
	})
}
