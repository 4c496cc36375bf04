package hosttest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Require skips a test where there is no engine with compose, and fails it if
// SANDBOXER_REQUIRE_ENGINE is 1. It waits for the test's turn.
func Require(t testing.TB) {
	t.Helper()
	Turn(t)
	switch err := usable(); {
	case err == nil:
	case os.Getenv("SANDBOXER_REQUIRE_ENGINE") == "1":
		t.Fatalf("the Docker Engine with its compose plugin is required: %v", err)
	default:
		t.Skipf("needs a Docker Engine with its compose plugin: %v", err)
	}
}

var usable = sync.OnceValue(func() error {
	for _, args := range [][]string{{"compose", "version"}, {"info"}} {
		if out, err := exec.Command("docker", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
})

// Socket is the path of the engine's unix socket.
func Socket() string {
	if path, ok := strings.CutPrefix(os.Getenv("DOCKER_HOST"), "unix://"); ok {
		return path
	}
	return "/var/run/docker.sock"
}

// Leftovers asks the engine, over its socket, and the disk what carries the id
// of a sandbox.
func Leftovers(root, id string) []string {
	var left []string
	for _, label := range []string{"dev.sandboxer.id=" + id, "com.docker.compose.project=sbx-" + id} {
		found, err := labelled(label)
		if err != nil {
			left = append(left, fmt.Sprintf("perhaps all: cannot ask the engine: %v", err))
		}
		left = append(left, found...)
	}
	secrets, _ := filepath.Glob("/dev/shm/sandboxer-*/*" + id + "*")
	left = append(left, secrets...)
	_ = filepath.WalkDir(root, func(path string, _ os.DirEntry, _ error) error {
		if strings.Contains(filepath.Base(path), id) {
			left = append(left, path)
		}
		return nil
	})
	return left
}

// An object has an id or, as volumes do, a name alone. What else the engine
// tells of it changes with time.
type object struct{ ID, Name string }

// labelled lists what on the engine carries a label.
func labelled(label string) ([]string, error) {
	filters, err := json.Marshal(map[string][]string{"label": {label}})
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", Socket())
	}}
	defer transport.CloseIdleConnections()
	query := "?all=1&filters=" + url.QueryEscape(string(filters))
	var found []string
	for _, list := range []string{"containers/json", "networks", "volumes", "images/json"} {
		answer, err := get(transport, "http://engine/"+list+query)
		if err != nil {
			return found, err
		}
		var objects []object
		if list == "volumes" {
			err = json.Unmarshal(answer, &struct{ Volumes *[]object }{&objects})
		} else {
			err = json.Unmarshal(answer, &objects)
		}
		if err != nil {
			return found, fmt.Errorf("%s: %w", list, err)
		}
		for _, o := range objects {
			found = append(found, fmt.Sprintf("%s with label %s: %s", list, label, cmp.Or(o.ID, o.Name)))
		}
	}
	return found, nil
}

func get(transport http.RoundTripper, address string) ([]byte, error) {
	resp, err := (&http.Client{Transport: transport}).Get(address)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return answer, err
}
