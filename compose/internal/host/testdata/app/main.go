// Command app is what the tests' containers and builds run.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		hold()
		return
	}
	switch os.Args[1] {
	case "hold":
		hold()
	case "fail":
		fmt.Fprintln(os.Stderr, "the reason, for people")
		os.Exit(7)
	case "chatter":
		chatter(os.Args[2], os.Args[3])
	case "write":
		if err := os.WriteFile(os.Args[2], []byte("x"), 0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func hold() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	<-ended
}

// chatter writes so many numbered lines, so far apart.
func chatter(lines, pause string) {
	n, _ := strconv.Atoi(lines)
	d, _ := time.ParseDuration(pause)
	for i := range n {
		fmt.Printf("line %d of %d\n", i+1, n)
		time.Sleep(d)
	}
}
