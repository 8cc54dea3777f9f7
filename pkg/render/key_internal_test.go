package render

import (
	"strings"
	"testing"
)

// The test vectors of IEEE 802.11-2020, J.4.2.
func TestKeyIsTheStandards(t *testing.T) {
	for _, tc := range []struct{ passphrase, ssid, want string }{
		{"password", "IEEE", "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"},
		{"ThisIsAPassword", "ThisIsASSID", "0dc0d6eb90555ed6419756b9a15ec3e3209b63df707dd508d14581f8982721af"},
		{strings.Repeat("a", 32), strings.Repeat("Z", 32), "becb93866bb8c3832cb777c2f559807c8c59afcb6eae734885001300a981cc62"},
	} {
		if got, err := key(tc.passphrase, tc.ssid); got != tc.want || err != nil {
			t.Errorf("%s, %s: %s, %v, want %s", tc.passphrase, tc.ssid, got, err, tc.want)
		}
	}
}
