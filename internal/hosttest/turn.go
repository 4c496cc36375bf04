package hosttest

import (
	"os"
	"sync"
	"testing"
)

// turnVariable tells the processes that a test runs that it has the turn.
const turnVariable = "HOSTTEST_TURN"

// Turn waits until no test process but this one, and those that it starts,
// works on the engine. It is given back when the process ends. Tests of several
// packages at once make the engine so busy that what is only slow is taken for
// what fails.
func Turn(t testing.TB) {
	t.Helper()
	if err := turn(); err != nil {
		t.Fatalf("waiting for the turn on the engine: %v", err)
	}
}

var turn = sync.OnceValue(func() error {
	if os.Getenv(turnVariable) != "" {
		return nil
	}
	if err := lockForLife(os.TempDir()); err != nil {
		return err
	}
	return os.Setenv(turnVariable, "taken")
})
