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
		flooding := device(1)
		let := 0
		for i := range 10 * maxAskers {
			if i%10 == 0 {
				for range 5 {
					if l.Allow(flooding, time.Now()) {
						let++
					}
				}
			}
			if !l.Allow(device(2+i), time.Now()) {
				t.Fatalf("newcomer %d is refused", i)
			}
			if l.Known() > maxAskers {
				t.Fatalf("%d devices are remembered", l.Known())
			}
		}
		if let != 60 {
			t.Errorf("the flood of one got %d through beside them, want 60", let)
		}
	})
}

// More devices than can be told apart, once a second each, and chargers that begin.
func TestNewcomerIsServedHoweverManyAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(1, 16)
		for second := range 120 {
			for i := range 6000 {
				l.Allow(device(i), time.Now())
				if i%100 == 0 {
					time.Sleep(time.Second / 60)
				}
			}
			for range 3 {
				if !l.Allow(netip.AddrFrom4([4]byte{10, 84, 0, byte(second)}), time.Now()) {
					t.Errorf("the charger that began in second %d is refused", second)
				}
			}
		}
		if l.Known() > maxAskers {
			t.Errorf("%d devices are remembered", l.Known())
		}
	})
}

// A quarter of what is over the rate leaks, and 2000 a second at most.
func TestLeak(t *testing.T) {
	for _, tt := range []struct{ perSecond, least, most int }{
		{30, 10 * 30 / 10, 10 * 30 / 2}, {1000, 10 * 1000 / 5, 10 * 1000 * 10 / 33}, {100_000, 10 * 1990, 10*2000 + 201},
	} {
		synctest.Test(t, func(t *testing.T) {
			l, leaked := New(20, 60), 0
			for range 10 * tt.perSecond {
				if l.Leak(time.Now()) {
					leaked++
				}
				time.Sleep(time.Second / time.Duration(tt.perSecond))
			}
			if leaked < tt.least || leaked > tt.most {
				t.Errorf("%d a second: %d leak in ten seconds, want %d to %d", tt.perSecond, leaked, tt.least, tt.most)
			}
		})
	}
}

func BenchmarkAllow(b *testing.B) {
	for name, many := range map[string]int{"known": 1000, "made up": 1 << 16} {
		b.Run(name, func(b *testing.B) {
			l, now := New(20, 60), time.Now()
			b.ReportAllocs()
			for i := range b.N {
				l.Allow(device(i%many), now)
			}
		})
	}
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
