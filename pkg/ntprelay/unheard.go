package ntprelay

import (
	"context"
	"errors"
	"os"
	"syscall"
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
		return "chronyd does not run"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "chronyd does not answer"
	}
	return "chronyd gives no usable answer"
}
