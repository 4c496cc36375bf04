//go:build linux

package main

import (
	"syscall"
	"unsafe"
)

// read is the system call, repeated after a signal.
func read(fd int, p []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// clientGone reports whether the other end of standard input is closed, also with something left to read.
func clientGone() bool {
	const hangUp = 0x10 // POLLHUP, which needs no asking for
	stdin := struct {
		fd              int32
		asked, happened int16
	}{}
	syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&stdin)), 1, uintptr(unsafe.Pointer(&syscall.Timespec{})), 0, 0, 0)
	return stdin.happened&hangUp != 0
}
