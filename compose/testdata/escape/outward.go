package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// patience is how long an answer may take: the witnesses are on this machine.
const patience = 3 * time.Second

// outward are the attempts that send something to where.
var outward = map[string]func(where, token string) error{
	"tcp":      func(where, token string) error { return say("tcp", where, token+"\n") },
	"udp":      func(where, token string) error { return say("udp", where, token+"\n") },
	"unrouted": unrouted,
	"proxy":    throughProxy,
	"name":     func(where, _ string) error { return lookUp(where, net.DefaultResolver) },
	"dns-udp":  func(where, token string) error { return lookUp(token+".outside.example", resolverAt("udp", where)) },
	"dns-tcp":  func(where, token string) error { return lookUp(token+".outside.example", resolverAt("tcp", where)) },
	"leak":     func(_, token string) error { return lookUp(token+".outside.example", net.DefaultResolver) },
	"ping":     ping,
	"unix":     func(where, _ string) error { return say("unix", where, "GET /_ping HTTP/1.0\r\n\r\n") },
}

// say sends a text and wants any answer.
func say(network, where, text string) error {
	conn, err := net.DialTimeout(network, where, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	return exchange(conn, text)
}

func exchange(conn net.Conn, text string) error {
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 512))
	return err
}

// unrouted sends a datagram through the interface, past the routing table: what
// the kernel has no route for it takes to be on the link.
func unrouted(where, token string) error {
	interfaces, err := net.Interfaces()
	if err != nil {
		return err
	}
	err = errors.New("no interface")
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback == 0 {
			err = throughInterface(i.Name, where, token)
		}
	}
	return err
}

func throughInterface(name, where, token string) error {
	dialer := net.Dialer{Timeout: patience, Control: func(_, _ string, c syscall.RawConn) (err error) {
		_ = c.Control(func(fd uintptr) {
			err = errors.Join(syscall.SetsockoptString(int(fd), syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, name),
				syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_BROADCAST, 1))
		})
		return err
	}}
	conn, err := dialer.Dial("udp4", where)
	if err != nil {
		return err
	}
	defer conn.Close()
	return exchange(conn, token+"\n")
}

// throughProxy asks the proxy of the environment for a connection.
func throughProxy(where, token string) error {
	proxy, ok := strings.CutPrefix(os.Getenv("HTTP_PROXY"), "http://")
	if !ok {
		return errors.New("there is no proxy")
	}
	conn, err := net.DialTimeout("tcp", strings.TrimSuffix(proxy, "/"), patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	where = strings.ReplaceAll(where, "TOKEN", token)
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", where, where)
	answer := make([]byte, 12)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer[9:]) != fmt.Sprint(http.StatusOK) {
		return fmt.Errorf("the proxy answers %s: %w", answer, errors.Join(err, errors.ErrUnsupported))
	}
	return exchange(conn, token+"\n")
}

func lookUp(name string, resolver *net.Resolver) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := resolver.LookupNetIP(ctx, "ip4", name+".")
	return err
}

func resolverAt(network, where string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, where)
	}}
}

// ping sends an echo request over the kind of socket that needs no rights.
func ping(where, _ string) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, syscall.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	patient := syscall.NsecToTimeval(int64(patience))
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &patient); err != nil {
		return err
	}
	to := &syscall.SockaddrInet4{Addr: [4]byte(net.ParseIP(where).To4())}
	if err := syscall.Sendto(fd, []byte{8, 0, 0, 0, 0, 0, 0, 1}, 0, to); err != nil {
		return err
	}
	_, _, err = syscall.Recvfrom(fd, make([]byte, 64), 0)
	return err
}
