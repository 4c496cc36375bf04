// Program does what its arguments say, for tests that need a container to do it.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

func main() {
	switch verb := os.Args[1]; verb {
	case "sleep":
		time.Sleep(time.Hour)
	case "print": // lines to both outputs, then the exit code
		fmt.Println("one")
		time.Sleep(50 * time.Millisecond) // nothing orders the two outputs but time
		fmt.Fprintln(os.Stderr, "two")
		time.Sleep(50 * time.Millisecond)
		fmt.Println("three")
		code, _ := strconv.Atoi(os.Args[2])
		os.Exit(code)
	case "tick":
		for i := 0; ; i++ {
			fmt.Println("tick", i)
			time.Sleep(20 * time.Millisecond)
		}
	case "eat": // more memory than the container has
		for kept := [][]byte{}; ; {
			kept = append(kept, bytes.Repeat([]byte{1}, 1<<20))
			fmt.Println(len(kept), "MiB")
		}
	case "cat":
		io.Copy(os.Stdout, os.Stdin)
	case "hash": // says what it got only at the end of input
		h := sha256.New()
		n, err := io.Copy(h, os.Stdin)
		fmt.Fprintln(os.Stderr, "read", n, err)
		fmt.Printf("%x", h.Sum(nil))
		os.Exit(3)
	case "status":
		file, err := os.Open("/proc/self/status")
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		for lines := bufio.NewScanner(file); lines.Scan(); {
			fmt.Println(lines.Text())
		}
		fmt.Println("uid", os.Getuid())
		fmt.Println("write", os.WriteFile("/written", nil, 0o600))
	default:
		fmt.Fprintln(os.Stderr, "no such verb:", verb)
		os.Exit(64)
	}
}
