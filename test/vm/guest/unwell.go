package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"chargegate/pkg/hostapd"
	"chargegate/test/vm/wire"
)

// signal changes how well a station is heard, from its next frame on.
func signal(_ context.Context, args json.RawMessage) (any, error) {
	var a wire.Signal
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, err
	}
	some, err := chosen([]int{a.Number})
	if err != nil {
		return nil, err
	}
	return nil, heardAt(some[0].name, a.DBm)
}

// say tells a station's wpa_supplicant something.
func say(ctx context.Context, args json.RawMessage) (any, error) {
	var a wire.Say
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, err
	}
	some, err := chosen([]int{a.Number})
	if err != nil {
		return nil, err
	}
	return some[0].say(ctx, a.Command)
}

// wrong lets a station try to join with a wrong passphrase.
func wrong(ctx context.Context, args json.RawMessage) (any, error) {
	var a wire.Wrong
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, err
	}
	ctx, end := context.WithTimeout(ctx, a.Within)
	defer end()
	began := time.Now()
	s, err := makeStation(ctx, a.Stations, a.First)
	if err != nil {
		return nil, err
	}
	if err := s.mistake(ctx, a.PSK); err != nil {
		return nil, err
	}
	told := wire.Tried{MAC: wire.StationMAC(a.First)}
	for told.Tries < a.Tries {
		if err := s.try(ctx); err != nil {
			return told, fmt.Errorf("after %d tries: %w", told.Tries, err)
		}
		told.Tries++
		told.Took = time.Since(began)
	}
	return told, nil
}

// mistake gives a station that may be in already another key, as somebody does who
// types its passphrase anew.
func (s *station) mistake(ctx context.Context, psk string) error {
	if err := soon(ctx, func() bool { _, err := s.say(ctx, "PING"); return err == nil }); err != nil {
		return fmt.Errorf("wpa_supplicant does not answer: %w", err)
	}
	for _, command := range []string{"SET_NETWORK 0 psk " + psk, "DISCONNECT", "SELECT_NETWORK 0"} {
		if _, err := s.say(ctx, command); err != nil {
			return err
		}
	}
	return nil
}

// deliberation is how long a station speaks with hostapd of keys before it gives
// up: long enough for hostapd to see that they are not the same.
const deliberation = 700 * time.Millisecond

// try is one try to join: association, and a key that is not accepted.
func (s *station) try(ctx context.Context) error {
	state := ""
	err := soon(ctx, func() bool {
		answer, err := s.say(ctx, "STATUS")
		if err == nil {
			state = hostapd.Values(answer)["wpa_state"]
		}
		return state == "4WAY_HANDSHAKE" || state == "COMPLETED"
	})
	if err != nil {
		return fmt.Errorf("wpa_supplicant stays at %s: %w", state, err)
	}
	if state == "COMPLETED" {
		return fmt.Errorf("the wrong passphrase was taken")
	}
	time.Sleep(deliberation)
	for _, command := range []string{"DISCONNECT", "SELECT_NETWORK 0"} {
		if _, err := s.say(ctx, command); err != nil {
			return err
		}
	}
	return soon(ctx, func() bool {
		answer, err := s.say(ctx, "STATUS")
		return err == nil && hostapd.Values(answer)["wpa_state"] != "4WAY_HANDSHAKE"
	})
}
