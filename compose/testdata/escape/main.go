// Command escape tries to get out of the sandbox that it runs in, and is what
// stands outside to see whether it did. Its first argument says which:
//
//	serve               answer POST /try on port 8080: a list of attempts, of which each is told what came of it
//	try KIND WHERE      make one attempt on the kernel or the container's bounds and print what came of it
//	witness ADDRESS…    answer on TCP and UDP, names included; print what arrives, a token a line
//	connect ADDRESS     join standard input and output to a TCP address
//
// The others are what serve starts itself: programs that may be killed, or that
// try with the rights of somebody else.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// An attempt is something to try. Token is what a witness is to see of it.
type attempt struct{ Kind, Where, Token string }

// Words for what came of an attempt. Fills have words of their own.
const (
	closed = "closed"
	open   = "open"
)

func main() {
	args := append(os.Args[1:], "", "", "")
	switch args[0] {
	case "serve":
		check(http.ListenAndServe(":8080", http.HandlerFunc(serve)))
	case "try":
		fmt.Println(args[1], args[2], outcome(inward[args[1]](args[2])))
	case "witness":
		witness(os.Args[2:])
	case "connect":
		connect(args[1])
	case "fork":
		fork()
	case "wait":
		time.Sleep(time.Hour)
	case "fill":
		first()
		fmt.Println(fill(args[1]))
	case "allocate":
		allocate()
	case "become-root":
		becomeRoot()
	case "who":
		fmt.Print(os.Geteuid())
	case "mount":
		check(tryMounts())
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve tries what reaches outward all at once, and the rest one by one.
func serve(w http.ResponseWriter, r *http.Request) {
	var attempts []attempt
	if err := json.NewDecoder(r.Body).Decode(&attempts); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	said := make([]string, len(attempts))
	var all sync.WaitGroup
	for i, a := range attempts {
		if try, ok := outward[a.Kind]; ok {
			all.Go(func() { said[i] = outcome(try(a.Where, a.Token)) })
		}
	}
	all.Wait()
	for i, a := range attempts {
		if try, ok := inward[a.Kind]; ok {
			said[i] = outcome(try(a.Where))
		} else if fill, ok := fills[a.Kind]; ok {
			said[i] = fill(a.Where)
		}
	}
	_ = json.NewEncoder(w).Encode(said)
}

func outcome(err error) string {
	if err != nil {
		return closed + ": " + err.Error()
	}
	return open
}

func connect(address string) {
	conn, err := net.Dial("tcp", address)
	check(err)
	go func() {
		_, _ = io.Copy(conn, os.Stdin)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(os.Stdout, conn)
}
