//go:build linux

// Proxy is the way out of a sandbox whose profile lists where it may go: an
// HTTP proxy that connects to what is on the list and to nothing else.
//
//	proxy ADDRESS:PORT... -- ENTRY...
//
// It listens on every address, takes CONNECT and plain requests, and writes one
// line to standard output for every decision. Entries are those of package
// allowlist. It ends with 0 after SIGTERM, with 1 and the reason on one line of
// standard error, or with 2 if it was called otherwise.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/sand-boxer/sandboxer/internal/allowlist"
)

func main() {
	args := os.Args[1:]
	dash := slices.Index(args, "--")
	if dash < 1 {
		fmt.Fprintln(os.Stderr, "usage: proxy ADDRESS:PORT... -- ENTRY...")
		os.Exit(2)
	}
	list, err := allowlist.ParseList(args[dash+1:])
	if err == nil {
		err = serve(args[:dash], list)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// headerTime bounds how long a client may take to say what it wants.
const headerTime = 30 * time.Second

func serve(addresses []string, list allowlist.List) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	server := &http.Server{Handler: newProxy(list, os.Stdout), ReadHeaderTimeout: headerTime, MaxHeaderBytes: 64 << 10}
	ended := make(chan error, len(addresses))
	for _, address := range addresses {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		go func() { ended <- server.Serve(listener) }()
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	if err := server.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
