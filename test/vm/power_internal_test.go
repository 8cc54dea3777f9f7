package main

import (
	"net/netip"
	"testing"

	"chargegate/test/vm/wire"
)

func TestALedgerSeesABrokenPromise(t *testing.T) {
	t.Parallel()
	one, two := [6]byte{1}, [6]byte{2}
	a, b := netip.MustParseAddr("10.83.16.2"), netip.MustParseAddr("10.83.16.3")
	for name, test := range map[string]struct {
		first, then wire.Promise
		broken      bool
	}{
		"the same again":                 {wire.Promise{MAC: one, Addr: a}, wire.Promise{MAC: one, Addr: a}, false},
		"somebody else, another address": {wire.Promise{MAC: one, Addr: a}, wire.Promise{MAC: two, Addr: b}, false},
		"another address":                {wire.Promise{MAC: one, Addr: a}, wire.Promise{MAC: one, Addr: b}, true},
		"somebody else's address":        {wire.Promise{MAC: one, Addr: a}, wire.Promise{MAC: two, Addr: a}, true},
	} {
		book := ledger{}
		if err := book.take(test.first); err != nil {
			t.Errorf("%s: the first promise: %v", name, err)
		}
		if err := book.take(test.then); (err != nil) != test.broken {
			t.Errorf("%s: %v, want an error: %v", name, err, test.broken)
		}
	}
}
