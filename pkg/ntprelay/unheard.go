package ntprelay

import (
	"context"
	"errors"
	"os"
	"syscall"

	"chargegate/pkg/event"
)

// unheard says in a technician's words why nothing is known of the clock. The
// whole error has an event of its own.
func unheard(source string, err error) string {
	switch {
	case source == Kernel && errors.Is(err, os.ErrPermission):
		return "this service may not read the kernel's clock (kernel-clock.conf)"
	case source == Kernel:
		return "the kernel does not tell how right the clock is"
	case errors.Is(err, syscall.ECONNREFUSED):
		return chronydAway
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return chronydHangs
	}
	return chronydBabbles
}

// What is wrong with chronyd when nothing is known of the clock.
const (
	chronydAway    = "chronyd does not run"
	chronydHangs   = "chronyd does not answer"
	chronydBabbles = "chronyd gives no usable answer"
)

// remedy says what to do where no time is given, for a reason.
func remedy(source, reason string) event.Field {
	do := "Run: chronyc sources. Where no source answers, check the uplink, and whether UDP port 123 is open to the Internet; where all are marked x, they contradict one another: add another. Time comes back by itself."
	switch {
	case source == Kernel:
		do = "Run: timedatectl. It must say: System clock synchronized: yes. If it does, run: sudo chargegate doctor."
	case reason == chronydAway || reason == chronydHangs || reason == chronydBabbles:
		do = "Run: sudo systemctl restart chrony. If it ends again, systemctl status chrony says why; its configuration must keep cmdport 323 and bindcmdaddress 127.0.0.1."
	}
	return event.F("DO", do)
}
