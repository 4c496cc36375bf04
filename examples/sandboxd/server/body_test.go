package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/examples/sandboxd/server"
)

// raw sends text as it is, and nothing more; the connection stays open.
func (r *rig) raw(t *testing.T, text string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

// head is a request up to its body.
func head(method, target string, headers ...string) string {
	return method + " " + target + " HTTP/1.1\r\n" + strings.Join(append(headers, "", ""), "\r\n")
}

// Nobody holds a connection with a body that does not come, whatever answers.
func TestBodiesThatDoNotCome(t *testing.T) {
	w := newWorld(t)
	w.bodyPatience = 500 * time.Millisecond
	all := people(t, w)
	r := all["nobody"]
	at, doomed := "/v1/sandboxes/"+all["builder"].create().ID, "/v1/sandboxes/"+all["builder"].create().ID
	token := "Authorization: Bearer " + all["builder"].token
	const local, json, size = "Host: localhost", "Content-Type: application/json", "Content-Length: 100"
	for _, tt := range []struct {
		name, request string
		status        int
	}{
		{"no token", head("POST", "/v1/sandboxes", local, size), 401},
		{"no token, in chunks", head("POST", "/v1/sandboxes", local, "Transfer-Encoding: chunked"), 401},
		{"another type", head("POST", "/v1/sandboxes", local, size, token), 415},
		{"a parameter that cannot be", head("POST", "/v1/sandboxes?x=1", local, size, json, token), 400},
		{"the body itself", head("POST", "/v1/sandboxes", local, size, json, token), 408},
		{"the rest of the body", head("POST", "/v1/sandboxes", local, size, json, token) + `{"profile":`, 408},
		{"the next chunk", head("POST", "/v1/sandboxes", local, "Transfer-Encoding: chunked", json, token) + "2\r\n{ \r\n", 408},
		{"extend", head("POST", at+"/extend", local, size, json, token), 408},
		{"activate", head("POST", at+"/activate", local, size, token), 200},
		{"recreate", head("POST", at+"/recreate", local, size, token), 428},
		{"destroy of nothing", head("DELETE", "/v1/sandboxes/none", local, size, token), 404},
		{"page", head("GET", "/", local, size), 200},
		{"health", head("GET", "/healthz", local, size), 200},
		{"method", head("PUT", at, local, size), 405},
		{"path", head("GET", "/v2", local, size), 404},
		{"destroy", head("DELETE", doomed, local, size, token), 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			conn := r.raw(t, tt.request)
			answer := bufio.NewReader(conn)
			resp, err := http.ReadResponse(answer, nil)
			if err != nil {
				t.Fatalf("no answer: %v", err)
			}
			if _, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != tt.status {
				t.Errorf("got %s, %v, want %d", resp.Status, err, tt.status)
			}
			if _, err := answer.ReadByte(); err != io.EOF {
				t.Errorf("the connection stays: %v", err)
			}
		})
	}
	t.Run("another's host name", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.bodyPatience = 500 * time.Millisecond
		conn := w.start(t, server.Config{}).raw(t, head("POST", "/v1/sandboxes", "Host: evil.example", size))
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != 403 {
			t.Errorf("got %+v, %v", resp, err)
		}
	})
}

// A body that came lets what it began take its time.
func TestBodiesThatCame(t *testing.T) {
	w, g := newWorld(t), newGate()
	w.fault = g.at("provision", "network")
	w.bodyPatience = 500 * time.Millisecond
	r := w.start(t, server.Config{})
	request := func(method, target, body string, headers ...string) *bufio.Reader {
		conn := r.raw(t, head(method, target, append(headers, "Host: localhost", fmt.Sprintf("Content-Length: %d", len(body)))...)+body)
		return bufio.NewReader(conn)
	}
	stream := request("GET", "/v1/events", "{}", "Accept: text/event-stream")
	created := request("POST", "/v1/sandboxes", body, "Content-Type: application/json")
	<-g.reached
	time.Sleep(2 * w.bodyPatience)
	g.open()
	if resp, err := http.ReadResponse(created, nil); err != nil || resp.StatusCode != http.StatusCreated {
		t.Errorf("the create: %+v, %v", resp, err)
	}
	for {
		line, err := stream.ReadString('\n')
		if err != nil {
			t.Fatalf("the stream ends before it tells that the sandbox is ready: %v", err)
		}
		if strings.Contains(line, `"state":"ready"`) {
			return
		}
	}
}
