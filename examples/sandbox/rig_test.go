package main

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
	"github.com/sand-boxer/sandboxer/schemas"
)

// A cli runs the command with records, hosts and host directory of the test's own.
type cli struct {
	t     *testing.T
	db    string
	hosts string
	host  *hosttest.Host // that hosts has; nil where it is none of the test's own
	hub   string         // a hub file; empty is no State Hub
	bare  bool           // no flags but those of the call
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

// newCLI has a host of its own, which is an entry of hosts.yaml.
func newCLI(t *testing.T, entry string) *cli {
	t.Helper()
	host := hosttest.Entry(t, entry)
	return &cli{t: t, db: filepath.Join(t.TempDir(), "records.db"), hosts: host.File, host: host}
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

// assertHistory checks that the events of every sandbox have no gaps and that
// each ended destroyed.
func (c *cli) assertHistory() {
	c.t.Helper()
	for _, s := range decode[[]sandboxer.Sandbox](c.t, c.must("list", "--all", "--json")) {
		if s.State != sandboxer.StateDestroyed {
			c.t.Errorf("%s is %s (%s: %s), want destroyed", s.ID, s.State, s.Reason, s.Message)
		}
		c.host.AssertNothing(s.ID)
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
