package main

import (
	"context"
	"encoding/json"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"chargegate/pkg/sim"
	"chargegate/test/vm/wire"
)

func TestPromisesAreToldAtOnceAndSilenceInTime(t *testing.T) {
	ask := func(after int) []wire.Promise {
		args, err := json.Marshal(wire.Promises{After: after, Wait: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		out, err := promises(context.Background(), args)
		if err != nil {
			t.Fatal(err)
		}
		return out.([]wire.Promise)
	}
	synctest.Test(t, func(t *testing.T) {
		herd.news = make(chan struct{}) // of this bubble
		began := time.Now()
		if got := ask(0); len(got) != 0 || time.Since(began) != time.Second {
			t.Errorf("nothing was promised, and after %s the answer is %v; want nothing after 1 s", time.Since(began), got)
		}
		began = time.Now()
		go func() {
			time.Sleep(300 * time.Millisecond)
			hear(sim.Lease{MAC: [6]byte{1}, Addr: netip.MustParseAddr("10.83.16.2")})
		}()
		if got := ask(0); len(got) != 1 || time.Since(began) != 300*time.Millisecond {
			t.Errorf("after %s the answer is %v; want one promise after 300 ms", time.Since(began), got)
		}
		hear(sim.Lease{MAC: [6]byte{2}, Addr: netip.MustParseAddr("10.83.16.3")})
		if got := ask(1); len(got) != 1 || got[0].MAC != [6]byte{2} {
			t.Errorf("after the first the answer is %v, want the second", got)
		}
	})
}
