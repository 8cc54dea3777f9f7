package ntprelay

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// kernelLimit is where the kernel itself says that nobody disciplines its
	// clock any more (NTP_PHASE_LIMIT). STA_UNSYNC says less: some disciplines
	// never clear it.
	kernelLimit = 16 * time.Second
	// kernelStratum and kernelRefID are what we call a clock of which only its
	// greatest possible error is known. 10 is what NTP people give to a clock that
	// is right but cannot say by whom; a client with any other source prefers that
	// one. From stratum 2 on the reference is an address: our own machine.
	kernelStratum = 10
	kernelRefID   = 0x7f000001
	// tolerance is the speed at which the kernel raises its maximum error while
	// nobody corrects the clock: 500 ppm (MAXFREQ).
	tolerance = 500e-6
	// untold is what is added for a discipline that calls the clock free of error
	// after each correction (systemd-timesyncd does) though the network delay to its
	// server is never in that.
	untold = 100 * time.Millisecond
)

// askKernel asks the kernel how right its clock is, whoever disciplines it.
func askKernel(context.Context) (reading, error) {
	var t unix.Timex // Modes 0: read only
	if _, err := unix.Adjtimex(&t); err != nil {
		return reading{}, fmt.Errorf("reading the kernel's clock state (adjtimex): %w", err)
	}
	return fromKernel(t, time.Now()), nil
}

// fromKernel turns the kernel's state into a reading. All that bounds the error is
// dispersion: the maximum error that the discipline has told the kernel, the error
// that it has estimated, what the kernel is still to slew away, which the first
// does not hold, and untold. Since the maximum error grows by 500 ppm, it also tells
// when the clock was corrected at the earliest.
func fromKernel(t unix.Timex, now time.Time) reading {
	most := time.Duration(t.Maxerror) * time.Microsecond
	bound := most + time.Duration(t.Esterror)*time.Microsecond + toSlew(t).Abs() + untold
	r := reading{
		at: now, stratum: kernelStratum, refID: kernelRefID, reference: "the kernel's clock",
		refTime:    now.Round(0).Add(-time.Duration(float64(most) / tolerance)),
		dispersion: bound, growth: tolerance, limit: kernelLimit,
	}
	switch {
	case most >= kernelLimit:
		r.leap = alarm
	case t.Status&unix.STA_INS != 0:
		r.leap = 1
	case t.Status&unix.STA_DEL != 0:
		r.leap = 2
	}
	return r
}

// toSlew returns what the kernel is still to correct.
func toSlew(t unix.Timex) time.Duration {
	if t.Status&unix.STA_NANO != 0 {
		return time.Duration(t.Offset)
	}
	return time.Duration(t.Offset) * time.Microsecond
}
