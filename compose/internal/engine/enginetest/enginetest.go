// Package enginetest gives a test the machine's container engine and takes back whatever the test made on it.
package enginetest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
)

// LabelKey is the key of the label that everything a test makes must carry.
const LabelKey = "dev.sandboxer.test"

// Engine is a machine's engine, for one test. Everything on it that carries the test's label is removed at the test's
// end, which fails if something cannot be.
type Engine struct {
	*engine.Client
	ID    string // unique to the test, fit for names
	Label string // LabelKey=ID

	t testing.TB
}

// Start connects to the engine when it is the test's turn. Where there is none it skips t, or fails it if
// SANDBOXER_REQUIRE_ENGINE is 1.
func Start(t testing.TB) *Engine {
	t.Helper()
	hosttest.Turn(t)
	e := &Engine{Client: engine.New(Dial), ID: strings.ToLower(rand.Text()[:12]), t: t}
	e.Label = LabelKey + "=" + e.ID
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := e.Ping(ctx); err != nil {
		if os.Getenv("SANDBOXER_REQUIRE_ENGINE") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Cleanup(e.sweep)
	return e
}

// Dial connects to the engine's socket.
func Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", hosttest.Socket())
}

// Labels is the test's label as a new map.
func (e *Engine) Labels() map[string]string { return map[string]string{LabelKey: e.ID} }

// Network creates a network that carries the test's label and returns its id. Settings are of the API's request.
func (e *Engine) Network(name string, settings map[string]any) string {
	e.t.Helper()
	body := map[string]any{"Name": name, "Labels": e.Labels(), "CheckDuplicate": true}
	for key, value := range settings {
		body[key] = value
	}
	return e.Create("/networks/create", body)
}

// Volume creates a volume that carries the test's label.
func (e *Engine) Volume(name string) {
	e.t.Helper()
	e.Create("/volumes/create", map[string]any{"Name": name, "Labels": e.Labels()})
}

// Create makes an object that the client under test cannot make, by a POST to a path below the API's version, and
// returns its id. The body must carry the test's label.
func (e *Engine) Create(path string, body any) string {
	e.t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		e.t.Fatal(err)
	}
	var created struct{ ID string }
	e.call(http.MethodPost, path, bytes.NewReader(encoded), &created)
	return created.ID
}

// Get decodes the answer to a GET of a path below the API's version.
func (e *Engine) Get(path string, out any) {
	e.t.Helper()
	e.call(http.MethodGet, path, nil, out)
}

func (e *Engine) call(method, path string, body io.Reader, out any) {
	e.t.Helper()
	version, err := e.Version(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(e.t.Context(), method, "http://engine/v"+version.APIVersion+path, body)
	if err != nil {
		e.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return Dial(ctx) }}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		e.t.Fatalf("%s %s: %s %s %v", method, path, resp.Status, answer, err)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		e.t.Fatalf("%s %s: %v in %s", method, path, err, answer)
	}
}

// Program compiles the Go program in a directory for the engine's machine, imports it as the only file of an image
// that runs it and carries the test's label, and returns the image's reference.
func (e *Engine) Program(dir string) string {
	e.t.Helper()
	name := filepath.Base(dir)
	reference := "sandboxer.local/test/" + name + ":" + e.ID
	changes := []string{
		fmt.Sprintf("LABEL %s=%s", LabelKey, e.ID),
		fmt.Sprintf(`ENTRYPOINT ["/%s"]`, name),
	}
	if _, err := e.ImportImage(e.t.Context(), reference, bytes.NewReader(archive(e.t, name, e.Compile(dir))), changes...); err != nil {
		e.t.Fatal(err)
	}
	return reference
}

// Compile builds the static Go program in a directory for the engine's machine.
func (e *Engine) Compile(dir string) []byte {
	e.t.Helper()
	version, err := e.Version(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	binary := filepath.Join(e.t.TempDir(), "program")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "./"+filepath.ToSlash(dir))
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+version.Arch)
	if output, err := build.CombinedOutput(); err != nil {
		e.t.Fatalf("%v\n%s", err, output)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		e.t.Fatal(err)
	}
	return content
}

func archive(t testing.TB, name string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Run starts a container that carries the test's label and returns its id.
func (e *Engine) Run(spec engine.ContainerSpec) string {
	e.t.Helper()
	spec.Labels = e.Labels()
	id, err := e.CreateContainer(e.t.Context(), spec)
	if err != nil {
		e.t.Fatal(err)
	}
	if err := e.StartContainer(e.t.Context(), id); err != nil {
		e.t.Fatal(err)
	}
	return id
}

// sweep removes what carries the test's label and fails the test if something stays.
func (e *Engine) sweep() {
	defer e.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	found, err := e.Objects(ctx, e.Label)
	if err != nil {
		e.t.Error(err)
	}
	for _, o := range found {
		if err := e.Remove(ctx, o); err != nil {
			e.t.Error(err)
		}
	}
	if left, err := e.Objects(ctx, e.Label); err != nil || len(left) > 0 {
		e.t.Errorf("on the engine after the test: %v %v", left, err)
	}
}

// Remove removes an object, whatever its kind and state.
func (e *Engine) Remove(ctx context.Context, o engine.Object) error {
	var err error
	switch o.Kind {
	case engine.KindContainer:
		err = e.RemoveContainer(ctx, o.ID, engine.Removal{Force: true, Volumes: true})
	case engine.KindNetwork:
		err = e.RemoveNetwork(ctx, o.ID)
	case engine.KindVolume:
		err = e.RemoveVolume(ctx, o.ID)
	case engine.KindImage:
		err = e.RemoveImage(ctx, o.ID, true)
	}
	if engine.IsNotFound(err) {
		return nil
	}
	return err
}
