package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// event is the body of the first event of a sandbox.
func event(sandbox string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":"%[1]s-1","source":"s","type":"dev.sandboxer.sandbox.requested","subject":"%[1]s","time":"2026-01-31T12:00:00Z",
		"data":{"id":"%[1]s-1","seq":1,"time":"2026-01-31T12:00:00Z","sandbox_id":"%[1]s","state":"requested","reason":"requested","profile_id":"p","consumer":{"project":"q"}}}`, sandbox)
}

func post(url, sandbox string) (int, error) {
	resp, err := http.Post(url+"v1/events", "application/cloudevents+json", strings.NewReader(event(sandbox)))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// address reads the result line.
func address(t *testing.T, out io.Reader) string {
	t.Helper()
	line, err := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok || !strings.HasPrefix(url, "http://127.0.0.1:") || !strings.HasSuffix(url, "/") {
		t.Fatalf("first line %q, %v", line, err)
	}
	return url
}

// TestServe runs the command until it is interrupted, with a request under way.
func TestServe(t *testing.T) {
	t.Setenv("HUB_TEST_TOKEN", "secret")
	ctx, interrupt := context.WithCancel(t.Context())
	out, result := io.Pipe()
	var errOut bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"--addr", "127.0.0.1:0", "--db", filepath.Join(t.TempDir(), "hub.db"), "--token-env", "HUB_TEST_TOKEN"}, result, &errOut)
	}()
	url := address(t, out)
	if status, err := post(url, "a"); status != http.StatusUnauthorized || err != nil {
		t.Errorf("without a token: %d, %v", status, err)
	}
	body, write := io.Pipe()
	status := make(chan int, 1)
	go func() { status <- postSlowly(t, url, body) }()
	text := event("a")
	if _, err := io.WriteString(write, text[:50]); err != nil {
		t.Fatal(err)
	}
	interrupt()
	for { // until nobody listens any more
		conn, err := net.Dial("tcp", strings.Trim(url, "htp:/"))
		if err != nil {
			break
		}
		_ = conn.Close()
	}
	if _, err := io.WriteString(write, text[50:]); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	if got := <-status; got != http.StatusAccepted {
		t.Errorf("the request under way: %d", got)
	}
	if got := <-code; got != exitDone || errOut.Len() > 0 {
		t.Errorf("exit code %d\n%s", got, &errOut)
	}
}

// postSlowly reads nothing of the body before the hub asks for it.
func postSlowly(t *testing.T, url string, body io.Reader) int {
	req, err := http.NewRequest(http.MethodPost, url+"v1/events", body)
	if err != nil {
		t.Error(err)
		return 0
	}
	req.Header.Set("Content-Type", "application/cloudevents+json")
	req.Header.Set("Authorization", "Bearer secret")
	req.Header.Set("Expect", "100-continue")
	transport := &http.Transport{ExpectContinueTimeout: time.Minute}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Error(err)
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestUsage(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, []byte(" \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HUB_TEST_EMPTY", "")
	db := []string{"--addr", "127.0.0.1:0", "--db", filepath.Join(dir, "hub.db")}
	for _, tt := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"argument", []string{"start"}, exitUsage, "start"},
		{"flag", []string{"--port", "1"}, exitUsage, "--port"},
		{"empty variable", append(db, "--token-env", "HUB_TEST_EMPTY"), exitUsage, "HUB_TEST_EMPTY holds no token"},
		{"empty file", append(db, "--token-file", empty), exitUsage, "holds no token"},
		{"no file", append(db, "--token-file", filepath.Join(dir, "none")), exitUsage, "none"},
		{"both", append(db, "--token-file", empty, "--token-env", "HOME"), exitUsage, "one of them"},
		{"open reads without a token", append(db, "--open-reads"), exitUsage, "--token-env"},
		{"address", []string{"--addr", "nowhere", "--db", filepath.Join(dir, "hub.db")}, exitFailed, "--addr"},
		{"database", []string{"--addr", "127.0.0.1:0", "--db", dir}, exitFailed, dir},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			if code := run(t.Context(), tt.args, &out, &errOut); code != tt.code || out.Len() > 0 || !strings.Contains(errOut.String(), tt.says) {
				t.Errorf("exit code %d, want %d and %q\n%s%s", code, tt.code, tt.says, &out, &errOut)
			}
		})
	}
	var out bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &out, io.Discard); code != exitDone || !strings.Contains(out.String(), "--token-env HUB_TOKEN") {
		t.Errorf("help: exit code %d\n%s", code, &out)
	}
}
