//go:build linux

// Relay is the way into a network that its host cannot reach: a static program that runs in a container there.
//
//	relay hold             keeps the container running until SIGTERM; the first process of it
//	relay connect IP:PORT  joins its standard streams, framed as package wire says, to a TCP connection
//	relay probe MS IP:PORT... says which of them can be reached, each within so many milliseconds
//	relay clear DIR        removes everything in a directory, and follows no symbolic link
//
// It ends with 0, with 1 and the reason on one line of standard error, or with 2 if it was called otherwise. It is
// started once for each connection and counted against the memory of its container, hence the few packages.
package main

import "os"

func main() {
	switch args := os.Args[1:]; {
	case len(args) == 1 && args[0] == "hold":
		hold()
	case len(args) == 2 && args[0] == "connect":
		connect(args[1])
	case len(args) >= 2 && args[0] == "probe":
		probe(args[1], args[2:])
	case len(args) == 2 && args[0] == "clear":
		clearDir(args[1])
	default:
		os.Stderr.WriteString("usage: relay hold | connect IP:PORT | probe MS IP:PORT... | clear DIR\n")
		os.Exit(2)
	}
}

// fail ends the process with a reason.
func fail(reason string) {
	os.Stderr.WriteString(reason + "\n")
	os.Exit(1)
}
