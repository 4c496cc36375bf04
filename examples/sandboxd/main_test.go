package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
)

// asCommand makes the test binary be the command itself, so that a whole
// process can be killed.
const asCommand = "SANDBOXER_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) == "1" {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// A daemon is sandboxd with records, host directory and workspaces of the test's own.
type daemon struct {
	t         *testing.T
	host      *hosttest.Host
	db, repos string
	url       string // of the running process
	process   *exec.Cmd
}

func newDaemon(t *testing.T) *daemon {
	t.Helper()
	dir := t.TempDir()
	d := &daemon{t: t, host: hosttest.Local(t), db: filepath.Join(dir, "records.db"), repos: filepath.Join(dir, "repos")}
	if err := os.Mkdir(d.repos, 0o700); err != nil {
		t.Fatal(err)
	}
	return d
}

// start runs the command as a process of its own.
func (d *daemon) start(more ...string) {
	d.t.Helper()
	d.process = exec.Command(os.Args[0], append([]string{"--addr", "127.0.0.1:0", "--db", d.db, "--hosts", d.host.File, "--workspaces", d.repos}, more...)...)
	d.process.Env = append(os.Environ(), asCommand+"=1")
	d.process.Stderr = os.Stderr
	out, err := d.process.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.process.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(d.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		d.t.Fatalf("first line %q, %v", line, err)
	}
	d.url = strings.TrimSuffix(url, "/")
}

func (d *daemon) kill() {
	if d.process.ProcessState == nil {
		_ = d.process.Process.Kill()
		_ = d.process.Wait()
	}
}

// send makes one request and decodes the sandbox that answers it.
func (d *daemon) send(method, path, body string, status int, headers ...string) sandboxer.Sandbox {
	d.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, d.url+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		d.t.Fatalf("%s %s: %v %s, want %d\n%s", method, path, err, resp.Status, status, text)
	}
	var s sandboxer.Sandbox
	if err := json.Unmarshal(text, &s); err != nil {
		d.t.Fatalf("%v in %s", err, text)
	}
	return s
}

// smallRepo is a working tree below the workspaces whose one service serves HTTP.
func (d *daemon) smallRepo(name string) {
	d.t.Helper()
	tree := repotest.New(d.t, map[string]string{"compose.yaml": "services:\n  web:\n    build: .\n    command: [serve, \"8080\", hello]\n    ports: [\"80:8080\"]\n"})
	if err := os.Rename(tree, filepath.Join(d.repos, name)); err != nil {
		d.t.Fatal(err)
	}
}

// TestOnTheEngine is a life of the demo repository over HTTP.
func TestOnTheEngine(t *testing.T) {
	hosttest.Require(t)
	d := newDaemon(t)
	if err := os.Rename(repotest.Demo(t), filepath.Join(d.repos, "demo")); err != nil {
		t.Fatal(err)
	}
	d.start()
	s := d.send("POST", "/v1/sandboxes", `{"profile":"profile.compose-e2e","inputs":{"repo":"demo"}}`, http.StatusCreated)
	at := "/v1/sandboxes/" + s.ID
	t.Cleanup(func() { d.send("DELETE", at, "", http.StatusOK) })
	if s.State != sandboxer.StateReady || s.Reachability == nil || len(s.Reachability.Services) == 0 {
		t.Errorf("created %s, %+v", s.State, s.Reachability)
	}
	if s := d.send("GET", at+"?observe=true", "", http.StatusOK); s.Observed == nil || s.Observed.Presence != sandboxer.Present {
		t.Errorf("observed %+v", s.Observed)
	}
	if s := d.send("DELETE", at, "", http.StatusOK); s.State != sandboxer.StateDestroyed {
		t.Errorf("destroyed, it is %s", s.State)
	}
	d.host.AssertNothing(s.ID)
}

// TestKilled kills the server in the middle of a create. The next one removes
// what was half done, and says so.
func TestKilled(t *testing.T) {
	hosttest.Require(t)
	d := newDaemon(t)
	d.smallRepo("shop")
	d.start()
	s := d.send("POST", "/v1/sandboxes", `{"profile":"profile.compose-e2e","inputs":{"repo":"shop"}}`, http.StatusAccepted, "Prefer", "respond-async")
	at := "/v1/sandboxes/" + s.ID
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if left, _ := filepath.Glob(filepath.Join(d.host.Root, "sb", "*")); len(left) > 0 || time.Now().After(deadline) {
			break
		}
	}
	d.kill()
	d.start()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		now := d.send("GET", at, "", http.StatusOK)
		if now.State == sandboxer.StateDestroyed {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it is still %s (%s)", now.State, now.Reason)
		}
	}
	d.host.AssertNothing(s.ID)
	interrupted := false
	for _, e := range d.events(s.ID) {
		interrupted = interrupted || e.Reason == sandboxer.ReasonInterrupted
	}
	if !interrupted {
		t.Error("no event says that the create was interrupted")
	}
}

func (d *daemon) events(id string) []sandboxer.Event {
	d.t.Helper()
	resp, err := http.Get(d.url + "/v1/sandboxes/" + id + "/events")
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	var page struct{ Events []sandboxer.Event }
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		d.t.Fatal(err)
	}
	return page.Events
}

func TestUsage(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "tokens.yaml")
	if err := os.WriteFile(empty, []byte("tokens: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	db := []string{"--addr", "127.0.0.1:0", "--db", filepath.Join(dir, "r.db"), "--hosts", "local:", "--workspaces", dir}
	for _, tt := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"argument", []string{"start"}, exitUsage, "start"},
		{"flag", []string{"--port", "1"}, exitUsage, "--port"},
		{"everywhere without tokens", []string{"--addr", ":0"}, exitUsage, "--tokens"},
		{"another address without tokens", []string{"--addr", "192.0.2.1:80"}, exitUsage, "--tokens"},
		{"no address", []string{"--addr", "nowhere"}, exitUsage, "--addr"},
		{"no tokens", append(db, "--tokens", empty), exitFailed, "nobody could come"},
		{"no file of tokens", append(db, "--tokens", filepath.Join(dir, "none")), exitUsage, "none"},
		{"no workspaces", []string{"--addr", "127.0.0.1:0", "--db", filepath.Join(dir, "r.db"), "--hosts", "local:", "--workspaces", filepath.Join(dir, "none")}, exitFailed, "--workspaces"},
		{"token without a project", []string{"token", "--actor-type", "agt", "--actor", "ci"}, exitUsage, "consumer.project"},
		{"token of an administrator with a quota", []string{"token", "--project", "ops", "--actor-type", "adm", "--actor", "root", "--admin", "--quota", "5"}, exitUsage, "does not go with admin"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			if code := run(t.Context(), tt.args, &out, &errOut); code != tt.code || out.Len() > 0 || !strings.Contains(errOut.String(), tt.says) {
				t.Errorf("exit code %d, want %d and %q\n%s%s", code, tt.code, tt.says, &out, &errOut)
			}
		})
	}
	var out bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &out, io.Discard); code != exitDone || !strings.Contains(out.String(), "sandboxd token") {
		t.Errorf("help: exit code %d\n%s", code, &out)
	}
}

// The entry that sandboxd token prints lets its token in.
func TestToken(t *testing.T) {
	dir := t.TempDir()
	var entry, secret bytes.Buffer
	if code := run(t.Context(), []string{"token", "--project", "shop", "--actor-type", "agt", "--actor", "ci", "--quota", "2", "--workspaces", dir}, &entry, &secret); code != exitDone {
		t.Fatal(code)
	}
	tokens := filepath.Join(dir, "tokens.yaml")
	if err := os.WriteFile(tokens, append([]byte("tokens:\n"), entry.Bytes()...), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	result, out := io.Pipe()
	ended := make(chan int, 1)
	var errOut bytes.Buffer
	go func() {
		ended <- run(ctx, []string{"--addr", "127.0.0.1:0", "--db", filepath.Join(dir, "r.db"), "--hosts", "local:", "--workspaces", dir, "--tokens", tokens}, out, &errOut)
	}()
	line, err := bufio.NewReader(result).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url := strings.TrimPrefix(strings.TrimSpace(line), "listening on ") + "v1/sandboxes"
	for token, want := range map[string]int{strings.TrimSpace(secret.String()): 200, "sbx_other": 401} {
		req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("status %d, want %d", resp.StatusCode, want)
		}
	}
	stop()
	if code := <-ended; code != exitDone {
		t.Errorf("exit code %d\n%s", code, fmt.Sprint(&errOut))
	}
}
