//go:build unix

package hosttest

import (
	"fmt"
	"syscall"
)

// lockForLife locks a directory that everybody may open until the process
// ends. The lock leaves nothing behind.
func lockForLife(dir string) error {
	fd, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening %s: %w", dir, err)
	}
	for err = syscall.EINTR; err == syscall.EINTR; {
		err = syscall.Flock(fd, syscall.LOCK_EX)
	}
	if err != nil {
		return fmt.Errorf("locking %s: %w", dir, err)
	}
	return nil
}
