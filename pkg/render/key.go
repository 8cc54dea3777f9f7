package render

import (
	"crypto/pbkdf2"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
)

// key makes the 256 bits that WPA2 needs from a passphrase and the network's name,
// as hostapd and every charger would (IEEE 802.11-2020, J.4.1: PBKDF2 with
// HMAC-SHA1, 4096 rounds), in hexadecimal digits.
//
// It is made here so that no passphrase lies in a rendered file: people use one in
// several places, and a key opens this one network alone. No character of a
// passphrase can then mean anything to hostapd, either. The time is no reason: it is
// the same few hundredths of a second, here or there.
func key(passphrase, ssid string) (string, error) {
	k, err := pbkdf2.Key(sha1.New, passphrase, []byte(ssid), 4096, 32)
	if err != nil {
		return "", fmt.Errorf("making the key of %q: %w", ssid, err)
	}
	return hex.EncodeToString(k), nil
}
