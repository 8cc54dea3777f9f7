package sim

import (
	"fmt"
	"os"
	"testing"
)

// TestMain moves the tests into namespaces of their own.
func TestMain(m *testing.M) {
	if err := Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if os.Getenv(waitKey) != "" {
		waitForEver()
	}
	os.Exit(m.Run())
}
