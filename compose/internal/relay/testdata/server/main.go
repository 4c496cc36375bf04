// Server stands in a test's network and is spoken to through the relay.
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func main() {
	switch os.Args[1] {
	case "orphan":
		if err := exec.Command(os.Args[0], "linger").Start(); err != nil {
			log.Fatal(err)
		}
		return
	case "linger":
		time.Sleep(500 * time.Millisecond)
		return
	case "processes":
		processes()
		return
	}
	go listen(":9001", echo)
	go listen(":9002", answerLater)
	go listen(":9003", finishFirst)
	go listen(":9004", reset)
	go listen(":9005", func(*net.TCPConn) { time.Sleep(time.Hour) })
	go listen(":9006", count)
	http.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello from ", r.Host) })
	http.HandleFunc("/hash", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		if _, err := io.Copy(h, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%x", h.Sum(nil))
	})
	http.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.ParseInt(r.FormValue("n"), 10, 64)
		io.CopyN(w, rand.NewChaCha8([32]byte{}), n)
	})
	http.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
			log.Print("client gone")
		case <-time.After(time.Hour):
		}
	})
	http.HandleFunc("/die", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		w.Write(make([]byte, 1000))
		http.NewResponseController(w).Flush()
		os.Exit(1)
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}

// processes prints each process's name and state.
func processes() {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		log.Fatal(err)
	}
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if fields := strings.Fields(string(stat)); err == nil {
			fmt.Println(fields[1], fields[2])
		}
	}
}

func listen(address string, serve func(*net.TCPConn)) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer conn.Close()
			serve(conn.(*net.TCPConn))
		}()
	}
}

func echo(conn *net.TCPConn) { io.Copy(conn, conn) }

// answerLater hears the client out.
func answerLater(conn *net.TCPConn) {
	h := sha256.New()
	io.Copy(h, conn)
	fmt.Fprintf(conn, "%x", h.Sum(nil))
}

// finishFirst ends its direction and then hears the client out; port 9006 tells what came.
func finishFirst(conn *net.TCPConn) {
	io.WriteString(conn, "that is all")
	conn.CloseWrite()
	n, err := io.Copy(io.Discard, conn)
	heard <- fmt.Sprint(n, " ", err)
}

// reset breaks the connection when spoken to.
func reset(conn *net.TCPConn) {
	conn.Read(make([]byte, 1))
	conn.Write([]byte("x"))
	conn.SetLinger(0)
}

var heard = make(chan string, 1)

// count tells what finishFirst heard.
func count(conn *net.TCPConn) { io.WriteString(conn, <-heard) }
