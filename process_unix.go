//go:build unix && !linux

package sandboxer

import (
	"errors"
	"os"
	"syscall"
)

func machine() string {
	name, _ := os.Hostname()
	return name
}

func processStart(pid int) (start int64, exists bool) {
	return 0, !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}
