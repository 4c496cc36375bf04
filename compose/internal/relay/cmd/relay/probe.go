//go:build linux

package main

import (
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
)

// probe asks every target for a connection, all at once, and says what became
// of each: a line "TARGET open", "TARGET refused", "TARGET silent" or "TARGET
// unreachable". Silent means that nothing came back within the time.
func probe(milliseconds string, targets []string) {
	ms, err := strconv.Atoi(milliseconds)
	if err != nil || ms < 1 {
		fail("not a number of milliseconds: " + milliseconds)
	}
	results := make([]string, len(targets))
	var all sync.WaitGroup
	for i, target := range targets {
		addr, err := netip.ParseAddrPort(target)
		if err != nil || addr.Addr().Zone() != "" {
			fail("not an IP address and port: " + target)
		}
		all.Add(1)
		go func() {
			defer all.Done()
			results[i] = target + " " + attempt(addr, ms) + "\n"
		}()
	}
	all.Wait()
	for _, r := range results {
		os.Stdout.WriteString(r)
	}
}

func attempt(addr netip.AddrPort, ms int) string {
	socket, err := open(addr)
	if err != nil {
		return "unreachable"
	}
	defer syscall.Close(socket)
	bound := syscall.NsecToTimeval(int64(ms) * 1e6)
	syscall.SetsockoptTimeval(socket, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &bound)
	switch establish(socket, addr) {
	case nil:
		return "open"
	case syscall.ECONNREFUSED:
		return "refused"
	case syscall.EINPROGRESS, syscall.EAGAIN, syscall.ETIMEDOUT:
		return "silent"
	}
	return "unreachable"
}
