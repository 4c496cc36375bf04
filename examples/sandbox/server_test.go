package main

import (
	"context"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/server"
	"github.com/sand-boxer/sandboxer/extensiontest"
	"github.com/sand-boxer/sandboxer/profiles"
)

// newServer is a sandboxd over machines in memory that asks for a token, and
// the command that has one. The input profiles=… of a create chooses what goes wrong.
func newServer(t *testing.T) *cli {
	t.Helper()
	all, err := profiles.Load()
	if err != nil {
		t.Fatal(err)
	}
	all[0].Extension = ""
	backend := extensiontest.NewBackend(sandboxer.Host{Name: "one", Address: "fake://one"}, sandboxer.Host{Name: "dead", Address: "fake://dead"}, sandboxer.Host{Name: "broken", Address: "fake://broken"})
	backend.SetReachable("dead", false)
	fake := extensiontest.NewFake(extensiontest.FakeConfig{
		Backend: backend,
		Judge: func(req sandboxer.ProvisionRequest) []sandboxer.Violation {
			if req.Inputs["profiles"] != "greedy" {
				return nil
			}
			return []sandboxer.Violation{{Rule: "PRIVILEGED", Path: "services.api.privileged", Message: "no", Hint: "leave it out"}}
		},
		Fault: extensiontest.OnHost("broken", extensiontest.FailAt("provision", "container", &sandboxer.StageError{Stage: "build", Message: "no such file", Log: "step 3\n"})),
	})
	token, sum := server.NewToken()
	s, err := server.New(
		sandboxer.Config{Extensions: []sandboxer.Extension{fake}, Profiles: all, Store: sandboxer.NewMemoryStore()},
		server.Config{Workspaces: t.TempDir(), Tokens: []server.Token{{SHA256: sum, Project: "shop", ActorType: "agt", Actor: "ci"}}})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s)
	t.Cleanup(func() {
		web.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if left, err := backend.Leftovers(context.Background(), ""); err != nil || len(left) > 0 {
			t.Errorf("left behind: %q, %v", left, err)
		}
	})
	t.Setenv("SANDBOXER_SERVER", web.URL)
	t.Setenv("SANDBOXER_TOKEN", token)
	return &cli{t: t, db: filepath.Join(t.TempDir(), "not-used.db"), hosts: "local:"}
}

// TestThroughAServer: the same commands give the same documents.
func TestThroughAServer(t *testing.T) {
	c := newServer(t)
	schema(t, "plan", c.must("plan", "--input", "repo=.", "--json"))
	hosts := c.must("hosts", "--json")
	schema(t, "host-status-list", hosts)
	usable := map[string]bool{}
	for _, h := range decode[[]sandboxer.HostStatus](t, hosts) {
		usable[h.Host.Name] = h.Available
	}
	if diff := cmp.Diff(map[string]bool{"one": true, "dead": false, "broken": true}, usable); diff != "" {
		t.Errorf("usable hosts: %s", diff)
	}
	schema(t, "profile", c.must("profiles", "profile.compose-e2e", "--json"))
	created := c.must("create", "--input", "repo=.", "--run", "r1", "--label", "a=b", "--json")
	schema(t, "sandbox", created)
	s := decode[sandboxer.Sandbox](t, created)
	if s.State != sandboxer.StateReady || s.Consumer != (sandboxer.Consumer{Project: "shop", ActorType: "agt", Actor: "ci", Run: "r1"}) {
		t.Errorf("created %s for %s", s.State, s.Consumer)
	}
	if s := decode[sandboxer.Sandbox](t, c.must("get", s.ID[:6], "--json")); s.Observed == nil || s.Observed.Presence != sandboxer.Present {
		t.Errorf("observed %+v", s.Observed)
	}
	list := c.must("list", "--label", "a=b", "--state", "ready", "--json")
	schema(t, "sandbox-list", list)
	if all := decode[[]sandboxer.Sandbox](t, list); len(all) != 1 || all[0].ID != s.ID {
		t.Errorf("list gives %s", list)
	}
	if active := decode[sandboxer.Sandbox](t, c.must("activate", s.ID, "--json")); active.State != sandboxer.StateActive {
		t.Errorf("activated, it is %s", active.State)
	}
	c.must("deactivate", s.ID)
	if longer := decode[sandboxer.Sandbox](t, c.must("extend", s.ID, "2h", "--json")); !longer.ExpiresAt.After(s.ExpiresAt) {
		t.Errorf("extended to %v", longer.ExpiresAt)
	}
	if next := decode[sandboxer.Sandbox](t, c.must("recreate", s.ID, "--json")); next.Generation != 2 {
		t.Errorf("recreated, it is of generation %d", next.Generation)
	}
	schema(t, "meter-list", c.must("usage", "--by", "project", "--since", "1h", "--json"))
	if end := decode[sandboxer.Sandbox](t, c.must("destroy", s.ID, "--json")); end.State != sandboxer.StateDestroyed {
		t.Errorf("destroyed, it is %s", end.State)
	}
	var last sandboxer.Event
	for line := range strings.Lines(c.must("events", s.ID, "--json")) {
		schema(t, "event", line)
		if e := decode[sandboxer.Event](t, line); e.Seq != last.Seq+1 {
			t.Errorf("event %d after %d", e.Seq, last.Seq)
		} else {
			last = e
		}
	}
	if last.State != sandboxer.StateDestroyed {
		t.Errorf("the last event is %s", last.State)
	}
	if all := c.must("list", "-q", "--all"); strings.TrimSpace(all) != s.ID {
		t.Errorf("all are %q", all)
	}
}

// TestExitCodesThroughAServer: they are those of the command without one.
func TestExitCodesThroughAServer(t *testing.T) {
	c := newServer(t)
	destroyed := strings.TrimSpace(c.must("create", "-q", "--input", "repo=.", "--key", "k"))
	c.must("destroy", "-q", destroyed)
	for _, tt := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"no such sandbox", []string{"get", "aaaaaaaaaaaaaaaaaaaa"}, exitNotFound, "no sandbox"},
		{"no such profile", []string{"create", "--profile", "profile.none"}, exitNotFound, "profile.none"},
		{"no such host", []string{"create", "--input", "repo=.", "--host", "none"}, exitNotFound, "none"},
		{"a request that cannot be", []string{"create", "--input", "repo=.", "--label", "A=b"}, exitUsage, "labels.A"},
		{"admission", []string{"create", "--input", "repo=.", "--input", "profiles=greedy"}, exitRefused, "leave it out"},
		{"a plan that is denied", []string{"plan", "--input", "repo=.", "--input", "profiles=greedy"}, exitRefused, ""},
		{"a limit", []string{"create", "--input", "repo=.", "--ttl", "100h"}, exitRefused, "100h"},
		{"another's project", []string{"create", "--input", "repo=.", "--project", "blog"}, exitRefused, "blog"},
		{"no host", []string{"create", "--input", "repo=.", "--host", "dead"}, exitNoHost, "dead"},
		{"state", []string{"activate", destroyed}, exitConflict, "destroyed"},
		{"a key of the past", []string{"create", "--input", "repo=.", "--key", "k"}, exitConflict, "idempotency key"},
		{"a build that fails", []string{"create", "--input", "repo=.", "--host", "broken"}, exitFailed, "| step 3"},
		{"forward", []string{"forward", destroyed, "web:80"}, exitUsage, "does not work through a server"},
		{"logs", []string{"logs", destroyed}, exitUsage, "does not work through a server"},
		{"doctor", []string{"doctor"}, exitUsage, "does not work through a server"},
		{"no such profile to show", []string{"profiles", "profile.none"}, exitNotFound, "profile.none"},
		{"harden", []string{"hosts", "harden"}, exitUsage, "does not work through a server"},
		{"reap", []string{"reap"}, exitUsage, "does not work through a server"},
		{"undelivered", []string{"events", "--undelivered"}, exitUsage, "does not work through a server"},
		{"no server", []string{"list", "--server", "http://127.0.0.1:1"}, exitNoHost, "sandboxd runs"},
		{"no address", []string{"list", "--server", "nowhere"}, exitUsage, "nowhere"},
		{"no token", []string{"list", "--token-file", "/none/such"}, exitUsage, "--token-file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if code, _, errOut := c.run(tt.args...); code != tt.code || !strings.Contains(errOut, tt.says) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, tt.code, tt.says, errOut)
			}
		})
	}
	t.Run("a plan without a host", func(t *testing.T) {
		code, out, errOut := c.run("plan", "--input", "repo=.", "--host", "dead", "--probe", "--json")
		schema(t, "plan", out)
		if code != exitNoHost || !strings.Contains(errOut, "dead") {
			t.Errorf("exit code %d:\n%s", code, errOut)
		}
	})
	t.Run("another token", func(t *testing.T) {
		t.Setenv("SANDBOXER_TOKEN", "sbx_other")
		if code, _, errOut := c.run("list"); code != exitRefused || !strings.Contains(errOut, "token") {
			t.Errorf("exit code %d:\n%s", code, errOut)
		}
	})
}
