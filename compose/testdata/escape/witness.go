package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// witness listens on TCP and UDP and answers whatever comes. To a port 53 it
// is a resolver, which knows the names below outside.example and wild.example.
func witness(addresses []string) {
	for _, address := range addresses {
		listener, err := net.Listen("tcp", address)
		check(err)
		packets, err := net.ListenPacket("udp", address)
		check(err)
		answer := plainly
		if strings.HasSuffix(address, ":53") {
			answer = asResolver
		}
		go serveStreams(listener, answer)
		go servePackets(packets, answer)
	}
	seen("ready")
	_, _ = os.Stdin.Read(make([]byte, 1)) // until whoever started it ends
}

var out sync.Mutex

func seen(token string) {
	out.Lock()
	defer out.Unlock()
	fmt.Println(token)
}

func plainly(text []byte) []byte {
	token, _, _ := strings.Cut(string(text), "\n")
	seen(strings.TrimSpace(token))
	return []byte("heard\n")
}

func servePackets(conn net.PacketConn, answer func([]byte) []byte) {
	for {
		buf := make([]byte, 1500)
		n, from, err := conn.ReadFrom(buf)
		check(err)
		_, _ = conn.WriteTo(answer(buf[:n]), from)
	}
}

// serveStreams reads a line, or a question with its length before it.
func serveStreams(listener net.Listener, answer func([]byte) []byte) {
	for {
		conn, err := listener.Accept()
		check(err)
		go func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			buf := make([]byte, 1500)
			n, err := bufio.NewReader(conn).Read(buf)
			switch {
			case err != nil:
			case strings.HasSuffix(listener.Addr().String(), ":53") && n > 2:
				said := answer(buf[2:n])
				_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(said))), said...))
			default:
				_, _ = conn.Write(answer(buf[:n]))
			}
		}()
	}
}

// asResolver prints the first label of the name it is asked for.
func asResolver(question []byte) []byte {
	var labels []string
	at := 12
	for at < len(question) && question[at] != 0 && at+1+int(question[at]) <= len(question) {
		labels = append(labels, string(question[at+1:at+1+int(question[at])]))
		at += 1 + int(question[at])
	}
	if len(labels) == 0 || len(question) < at+5 {
		return plainly(question)
	}
	seen(strings.ToLower(labels[0]))
	answer := append([]byte{}, question[:at+5]...)
	answer[2], answer[3] = 0x81, 0x80
	copy(answer[4:12], []byte{0, 1, 0, 0, 0, 0, 0, 0})
	name := strings.ToLower(strings.Join(labels[1:], "."))
	if name != "outside.example" && name != "wild.example" {
		answer[3] |= 3 // no such name
		return answer
	}
	if question[at+2] != 1 { // another type than A
		return answer
	}
	answer[7] = 1
	return append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 80)
}
