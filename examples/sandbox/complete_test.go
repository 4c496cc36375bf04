package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
	"github.com/sand-boxer/sandboxer/profiles"
	"github.com/sand-boxer/sandboxer/sqlstore"
)

// offered is what a TAB offers behind what is typed, without descriptions.
func (c *cli) offered(typed string) []string {
	c.t.Helper()
	code, out, errOut := c.run(append([]string{"__complete"}, strings.Split(typed, " ")...)...)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != exitDone || lines[len(lines)-1] != ":4" { // offer no files
		c.t.Fatalf("%q: exit code %d, %s%s", typed, code, out, errOut)
	}
	var all []string
	for _, line := range lines[:len(lines)-1] {
		name, _, _ := strings.Cut(line, "\t")
		all = append(all, name)
	}
	return all
}

func (c *cli) offers(typed string, want ...string) {
	c.t.Helper()
	if diff := cmp.Diff(want, c.offered(typed)); diff != "" {
		c.t.Errorf("%q offers (-want +got):\n%s", typed, diff)
	}
}

// records puts sandboxes on machines in memory into the command's database:
// two that are ready, and one that is destroyed. Nothing of them is delivered.
func (c *cli) records() (ready [2]sandboxer.Sandbox, destroyed sandboxer.Sandbox) {
	c.t.Helper()
	all, err := profiles.Load()
	if err != nil {
		c.t.Fatal(err)
	}
	all[0].Extension = ""
	store, err := sqlstore.Open(c.t.Context(), c.db)
	if err != nil {
		c.t.Fatal(err)
	}
	fake := extensiontest.NewFake(extensiontest.FakeConfig{Backend: extensiontest.NewBackend()})
	client, err := sandboxer.New(sandboxer.Config{Extensions: []sandboxer.Extension{fake}, Profiles: all, Store: store})
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	create := func() *sandboxer.Sandbox {
		s, err := client.Create(c.t.Context(), sandboxer.CreateRequest{Profile: all[0].ID, Inputs: map[string]string{"repo": "."},
			Consumer: sandboxer.Consumer{Project: "shop", ActorType: sandboxer.ActorAgent, Actor: "ci"}})
		if err != nil {
			c.t.Fatal(err)
		}
		return s
	}
	ready = [2]sandboxer.Sandbox{*create(), *create()}
	gone, err := client.Destroy(c.t.Context(), create().ID)
	if err != nil {
		c.t.Fatal(err)
	}
	return ready, *gone
}

func TestCompletion(t *testing.T) {
	c := newCLI(t, "address: \"local:\"\nname: workshop")
	c.offers("create --profile ", "profile.compose-e2e")
	c.offers("profiles ", "profile.compose-e2e")
	c.offers("profiles none")
	c.offers("create --host ", "workshop")
	c.offers("hosts cordon ", "workshop")
	c.offers("hosts cordon workshop ")
	c.offers("create --actor-type ", "adm", "agt", "atm")
	c.offers("list --state ", "requested", "provisioning", "ready", "active", "failed", "lost", "destroying", "destroyed")
	c.offers("list -o ", formats...)
	c.offers("usage --by ", "consumer", "project", "host", "profile", "sandbox")
	c.offers("schema diag", "diagnosis")
	c.offers("completion ", "bash", "zsh", "fish", "powershell")
	for _, nothing := range []string{"list ", "init ", "extend aaaa ", "create --input repo=. "} {
		c.offers(nothing)
	}
	t.Setenv("XDG_CONFIG_HOME", t.TempDir()) // where no hosts are configured
	(&cli{t: t, bare: true}).offers("create --host ", "local")
}

// TestCompletionOfIDs: what is not destroyed is offered, and of it the services.
func TestCompletionOfIDs(t *testing.T) {
	c := newCLI(t, `address: "local:"`)
	ready, gone := c.records()
	one, two := ready[1].ID, ready[0].ID // the newest first, as list has them
	for _, command := range []string{"get ", "destroy ", "extend ", "recreate ", "activate ", "deactivate ", "forward ", "logs ", "events ", "redeliver "} {
		if diff := cmp.Diff(map[string]bool{one: true, two: true}, set(c.offered(command))); diff != "" {
			t.Errorf("%q offers (-want +got):\n%s", command, diff)
		}
	}
	c.offers("get "+one[:10], one)
	c.offers("get " + gone.ID[:10])
	c.offers("get " + one + " ")
	c.offers("destroy "+one+" ", two)
	c.offers("logs "+one+" ", "web", "echo")
	c.offers("forward "+one[:10]+" w", "web:8080")
	c.offers("logs " + one + " web ")
}

func set(all []string) map[string]bool {
	out := map[string]bool{}
	for _, s := range all {
		out[s] = true
	}
	return out
}

// TestCompletionThroughAServer: what is offered is the server's, not what this
// machine has.
func TestCompletionThroughAServer(t *testing.T) {
	c := newServer(t)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "mine.yaml"), "id: profile.mine\nisolation: container\nttl: 1h\nmax_ttl: 1h\ninputs: {repo: {}}\n")
	t.Setenv("SANDBOXER_PROFILES", dir)
	id := strings.TrimSpace(c.must("create", "-q", "--input", "repo=."))
	t.Cleanup(func() { c.must("destroy", "-q", id) })
	c.offers("create --profile ", "profile.compose-e2e")
	c.offers("profiles ", "profile.compose-e2e")
	if diff := cmp.Diff(set([]string{"one", "dead", "broken"}), set(c.offered("create --host "))); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
	c.offers("get ", id)
	c.offers("get "+id[:5], id)
	c.offers("destroy ", id)
	c.offers("events ", id)
	for _, refused := range []string{"hosts harden ", "logs ", "forward "} {
		if _, out, _ := c.run(append([]string{"__complete"}, strings.Split(refused, " ")...)...); out != ":1\n" {
			t.Errorf("%q, which does not work through a server, offers\n%s", refused, out)
		}
	}
}

// TestCompletionChangesNothing: no database is made, and no event delivered,
// which a hub that hangs would make a person wait for.
func TestCompletionChangesNothing(t *testing.T) {
	var asked atomic.Int32
	over := make(chan struct{})
	hub := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1); <-over }))
	t.Cleanup(func() { close(over); hub.Close() })
	c := newCLI(t, `address: "local:"`).withHub(t, "url: "+hub.URL+"\n")
	c.offers("get ")
	if _, err := os.Stat(c.db); err == nil {
		t.Error("a TAB makes a database")
	}
	ready, _ := c.records()
	c.offers("get "+ready[0].ID[:10], ready[0].ID)
	if n := asked.Load(); n > 0 {
		t.Errorf("a TAB delivers events: %d requests", n)
	}
}

// TestCompletionEnds: a server that does not answer is not waited for.
func TestCompletionEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, conn) }()
		}
	}()
	for _, typed := range []string{"get ", "create --host ", "create --profile "} {
		t.Run(typed, func(t *testing.T) {
			t.Parallel()
			c := &cli{t: t, bare: true}
			args := []string{"__complete", "--server", "http://" + l.Addr().String()}
			if _, out, _ := c.run(append(args, strings.Split(typed, " ")...)...); out != ":1\n" {
				t.Errorf("%q offers\n%s", typed, out)
			}
		})
	}
}

// TestCompletionScripts: there is one for every shell.
func TestCompletionScripts(t *testing.T) {
	c := &cli{t: t, bare: true}
	for _, shell := range shells {
		if out := c.must("completion", shell); !strings.Contains(out, "__complete") {
			t.Errorf("%s:\n%s", shell, out)
		}
	}
	if code, _, errOut := c.run("completion", "sh"); code != exitUsage || !strings.Contains(errOut, "sh") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
}
