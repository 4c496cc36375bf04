package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/repotest"
	"github.com/sand-boxer/sandboxer/schemas"
)

// requireEngine skips a test where there is no engine with compose, and fails
// it where one is required.
func requireEngine(t *testing.T) {
	t.Helper()
	out, err := exec.Command("docker", "compose", "version").CombinedOutput()
	if err == nil {
		out, err = exec.Command("docker", "info").CombinedOutput()
	}
	switch {
	case err == nil:
	case os.Getenv("SANDBOXER_REQUIRE_ENGINE") == "1":
		t.Fatalf("the Docker Engine with its compose plugin is required: %v: %s", err, out)
	default:
		t.Skipf("needs a Docker Engine with its compose plugin: %v", err)
	}
}

// A cli runs the command with records, hosts and host directory of the test's own.
type cli struct {
	t     *testing.T
	db    string
	hosts string
	hub   string // a hub file; empty is no State Hub
	root  string
	bare  bool // no flags but those of the call
}

// global are the flags that every call gets.
func (c *cli) global() []string {
	if c.bare {
		return nil
	}
	flags := []string{"--db", c.db, "--hosts", c.hosts}
	if c.hub != "" {
		flags = append(flags, "--hub", c.hub)
	}
	return flags
}

// newCLI writes a hosts file around the given host entry, to which a root
// directory is added.
func newCLI(t *testing.T, host string) *cli {
	t.Helper()
	dir := t.TempDir()
	c := &cli{t: t, db: filepath.Join(dir, "records.db"), hosts: filepath.Join(dir, "hosts.yaml"), root: filepath.Join(dir, "host")}
	text := "hosts:\n  - " + strings.ReplaceAll(strings.TrimSpace(host), "\n", "\n    ") + "\n    root: " + c.root + "\n"
	if err := os.WriteFile(c.hosts, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.assertRootEmpty) // after those of the sandboxes
	return c
}

// run executes the command in this process.
func (c *cli) run(args ...string) (code int, stdout, stderr string) {
	c.t.Helper()
	var out, errOut bytes.Buffer
	code = run(context.Background(), append(c.global(), args...), streams{in: strings.NewReader(""), out: &out, err: &errOut})
	return code, out.String(), errOut.String()
}

// must runs and fails the test unless the exit code is 0.
func (c *cli) must(args ...string) string {
	c.t.Helper()
	code, out, errOut := c.run(args...)
	if code != exitDone {
		c.t.Fatalf("sandbox %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errOut)
	}
	return out
}

// schema validates a document that --json printed.
func schema(t *testing.T, name, document string) {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	text, err := schemas.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := compiler.AddResource(name, doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(document))
	if err != nil {
		t.Fatalf("%v in %s", err, document)
	}
	if err := compiled.Validate(value); err != nil {
		t.Errorf("--json does not match schema %s: %v\n%s", name, err, document)
	}
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// assertNothing asks the engine and the disk whether anything carries the id.
func (c *cli) assertNothing(id string) {
	c.t.Helper()
	for _, list := range []string{"container ls -aq", "network ls -q", "volume ls -q", "image ls -aq"} {
		out, err := exec.Command("docker", append(strings.Fields(list), "--filter", "label=dev.sandboxer.id="+id)...).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "" {
			c.t.Errorf("docker %s with id %s: %v %s", list, id, err, out)
		}
	}
	_ = filepath.WalkDir(c.root, func(path string, _ os.DirEntry, _ error) error {
		if strings.Contains(filepath.Base(path), id) {
			c.t.Errorf("left on disk: %s", path)
		}
		return nil
	})
}

// assertRootEmpty waits until the host has removed what builds left, and
// expects nothing of a sandbox.
func (c *cli) assertRootEmpty() {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		var left []string
		for _, dir := range []string{"sb", "lock", "net", "cache/src", "cache/steps"} {
			below, _ := filepath.Glob(filepath.Join(c.root, dir, "*"))
			left = append(left, below...)
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			c.t.Errorf("left on disk: %q", left)
			return
		}
	}
}

// assertHistory checks that the events of every sandbox have no gaps and that
// each ended destroyed.
func (c *cli) assertHistory() {
	c.t.Helper()
	for _, s := range decode[[]sandboxer.Sandbox](c.t, c.must("list", "--all", "--json")) {
		if s.State != sandboxer.StateDestroyed {
			c.t.Errorf("%s is %s (%s: %s), want destroyed", s.ID, s.State, s.Reason, s.Message)
		}
		c.assertNothing(s.ID)
		lines := strings.Split(strings.TrimSpace(c.must("events", s.ID, "--json")), "\n")
		for i, line := range lines {
			if e := decode[sandboxer.Event](c.t, line); e.Seq != int64(i+1) {
				c.t.Errorf("event %d of %s has number %d", i+1, s.ID, e.Seq)
			}
		}
	}
}

// smallRepo is a working tree whose one service serves HTTP.
func smallRepo(t *testing.T) string {
	t.Helper()
	return repotest.New(t, map[string]string{"compose.yaml": "services:\n  web:\n    build: .\n    command: [serve, \"8080\", hello]\n    ports: [\"80:8080\"]\n"})
}
