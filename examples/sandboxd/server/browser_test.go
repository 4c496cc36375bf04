//go:build unix

package server_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A browser is a real Chromium without a window, with one page open. It is
// spoken to in its debugging protocol over a pair of pipes.
type browser struct {
	t       *testing.T
	to      *os.File
	session string
	next    int

	mu       sync.Mutex
	answers  map[int]chan reply
	requests []string // URLs that the page asked for
	problems []string // what the browser complained of
}

type reply struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct{ Message string }
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// browserPath skips a test where there is no Chromium, and fails it where
// everything that tests need is required, unless set-up found that none can be
// installed and nobody insists.
func browserPath(t *testing.T) string {
	t.Helper()
	if os.Getenv("SANDBOXER_WITHOUT_BROWSER") == "1" && os.Getenv("SANDBOXER_REQUIRE_BROWSER") != "1" {
		t.Skip("set-up found no browser that it could install")
	}
	names := []string{"google-chrome", "chromium", "chromium-browser"}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	problem := "needs one of " + strings.Join(names, ", ") + "; scripts/setup test installs it where it can"
	if os.Getenv("SANDBOXER_REQUIRE_ENGINE") == "1" {
		t.Fatal(problem)
	}
	t.Skip(problem)
	return ""
}

// browserPatience is for a machine that is busy with other tests.
const browserPatience = time.Minute

// browse opens a page. It reaches this machine only.
func browse(t *testing.T, url string) *browser {
	t.Helper()
	toRead, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, toWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(browserPath(t), "--remote-debugging-pipe", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-extensions", "--disable-sync", "--disable-breakpad", "--disable-background-networking",
		"--disable-component-update", "--disable-default-apps", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
		"--force-device-scale-factor=1", "--hide-scrollbars", "--lang=en-US", "--window-size=1400,1000", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{toRead, toWrite}
	// its many processes are a group, which ends as a whole
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = toRead.Close(), toWrite.Close()
	b := &browser{t: t, to: to, answers: map[int]chan reply{}}
	ended := make(chan struct{})
	go func() { defer close(ended); b.listen(from) }()
	t.Cleanup(func() {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Error(err)
		}
		_ = cmd.Wait()
		_ = to.Close()
		<-ended
		_ = from.Close()
	})
	b.open(url)
	return b
}

func (b *browser) open(url string) {
	b.t.Helper()
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Runtime", "Log", "Network", "Page"} {
		b.call(domain+".enable", nil, nil)
	}
	b.call("Page.navigate", map[string]any{"url": url}, nil)
}

// listen sorts what the browser says: messages end with a zero byte.
func (b *browser) listen(from *os.File) {
	messages := bufio.NewReader(from)
	for {
		text, err := messages.ReadBytes(0)
		if err != nil {
			return
		}
		var r reply
		if err := json.Unmarshal(bytes.TrimRight(text, "\x00"), &r); err != nil {
			continue
		}
		b.mu.Lock()
		if answer := b.answers[r.ID]; answer != nil {
			delete(b.answers, r.ID)
			answer <- r
		}
		b.note(r)
		b.mu.Unlock()
	}
}

func (b *browser) note(r reply) {
	switch r.Method {
	case "Network.requestWillBeSent":
		var sent struct{ Request struct{ URL string } }
		_ = json.Unmarshal(r.Params, &sent)
		b.requests = append(b.requests, sent.Request.URL)
	case "Runtime.exceptionThrown", "Runtime.consoleAPICalled":
		b.problems = append(b.problems, string(r.Params))
	case "Log.entryAdded":
		var logged struct{ Entry struct{ Source, Text string } }
		_ = json.Unmarshal(r.Params, &logged)
		if logged.Entry.Source != "network" { // a server that is down, or asks for a token
			b.problems = append(b.problems, logged.Entry.Source+": "+logged.Entry.Text)
		}
	}
}

func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	b.next++
	message := map[string]any{"id": b.next, "method": method, "params": params}
	if params == nil {
		message["params"] = map[string]any{}
	}
	if b.session != "" {
		message["sessionId"] = b.session
	}
	text, err := json.Marshal(message)
	if err != nil {
		b.t.Fatal(err)
	}
	answer := make(chan reply, 1)
	b.mu.Lock()
	b.answers[b.next] = answer
	b.mu.Unlock()
	if _, err := b.to.Write(append(text, 0)); err != nil {
		b.t.Fatal(err)
	}
	select {
	case r := <-answer:
		if r.Error != nil {
			b.t.Fatalf("%s: %s", method, r.Error.Message)
		}
		if result != nil {
			if err := json.Unmarshal(r.Result, result); err != nil {
				b.t.Fatal(err)
			}
		}
	case <-time.After(browserPatience):
		b.t.Fatalf("%s: no answer", method)
	}
}

// eval is the value of an expression in the page, as text, or what it throws.
func (b *browser) eval(expression string) string {
	b.t.Helper()
	var out struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &out)
	if out.ExceptionDetails != nil {
		return string(out.ExceptionDetails)
	}
	return fmt.Sprint(out.Result.Value)
}

// waitFor waits until an expression has a value.
func (b *browser) waitFor(expression, want string) {
	b.t.Helper()
	var got string
	for deadline := time.Now().Add(browserPatience); ; time.Sleep(20 * time.Millisecond) {
		if got = b.eval(expression); got == want {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s is %q, want %q; the page shows:\n%s", expression, got, want, b.eval("document.body.innerText"))
		}
	}
}

// tab presses the key and says what has the focus then.
func (b *browser) tab() string {
	b.t.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		b.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}, nil)
	}
	return b.eval(`(e => e.id || e.getAttribute("aria-labelledby") || e.tagName)(document.activeElement)`)
}

// scheme makes the page light or dark.
func (b *browser) scheme(name string) {
	b.t.Helper()
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": name}}}, nil)
}

// picture is what a person sees, kept as an artefact of the test.
func (b *browser) picture(name string) image.Image {
	b.t.Helper()
	var shot struct{ Data string }
	b.call("Page.captureScreenshot", nil, &shot)
	data, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.t.ArtifactDir(), name), data, 0o600); err != nil {
		b.t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		b.t.Fatal(err)
	}
	return img
}

// content fails the test if the browser complained, or asked anybody but the server.
func (b *browser) content(origin string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		b.t.Errorf("the browser complains: %s", p)
	}
	for _, url := range b.requests {
		if !strings.HasPrefix(url, origin+"/") && !strings.HasPrefix(url, "data:") {
			b.t.Errorf("the page asks for %s", url)
		}
	}
}
