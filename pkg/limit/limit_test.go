package limit

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func device(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 83, byte(i >> 8), byte(i)}) }

func TestDeviceHasItsBurstAndThenItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(20, 60)
		let := func(times int) (n int) {
			for range times {
				if l.Allow(device(1), time.Now()) {
					n++
				}
			}
			return n
		}
		if n := let(100); n != 60 {
			t.Errorf("%d of 100 at once, want 60", n)
		}
		time.Sleep(time.Second)
		if n := let(100); n != 20 {
			t.Errorf("%d a second later, want 20", n)
		}
		time.Sleep(time.Hour)
		if n := let(100); n != 60 {
			t.Errorf("%d after a rest, want 60", n)
		}
		if !l.Allow(device(2), time.Now()) {
			t.Error("another device paid for it")
		}
	})
}

func TestMadeUpAddressesCostNoMemoryAndNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(20, 60)
		charger := device(1)
		l.Allow(charger, time.Now())
		let := 0
		for i := range 10 * maxAskers {
			if l.Allow(device(2+i), time.Now()) {
				let++
			}
			if l.Known() > maxAskers+1 {
				t.Fatalf("%d devices are remembered", l.Known())
			}
		}
		if most := maxAskers + 60; let > most {
			t.Errorf("%d got through, want %d at most", let, most)
		}
		if !l.Allow(charger, time.Now()) {
			t.Error("the charger that was there before is refused")
		}
		time.Sleep(time.Minute)
		if !l.Allow(netip.MustParseAddr("10.83.200.200"), time.Now()) || l.Known() > 2 {
			t.Errorf("after a rest %d are still remembered", l.Known())
		}
	})
}

func TestOnceInAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, let := Every(8*time.Second, 1), 0
		for range 80 {
			if l.Allow(device(1), time.Now()) {
				let++
			}
			time.Sleep(time.Second)
		}
		if let != 10 {
			t.Errorf("%d in 80 s, want 10", let)
		}
	})
}
