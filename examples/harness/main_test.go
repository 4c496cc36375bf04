package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
	"github.com/sand-boxer/sandboxer/internal/sshtest"
	"github.com/sand-boxer/sandboxer/sqlstore"
)

const web = "services: {web: {build: ., command: [serve, \"8080\", hello]}}\n"

// TestHarness: the command runs in the service, its output and exit code are
// the harness's, the record says what happened, and nothing is left.
func TestHarness(t *testing.T) {
	hosttest.Require(t)
	repo := repotest.New(t, map[string]string{"compose.yaml": web})
	ssh, server := hosttest.SSH(t)
	dockerKnows(t, server)
	for _, tt := range []struct {
		name, address string
		host          *hosttest.Host
	}{
		{"local", "local:", hosttest.Local(t)},
		{"ssh", "ssh://" + server.User + "@" + server.Addr, ssh},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db := filepath.Join(t.TempDir(), "records.db")
			var out, errOut bytes.Buffer
			code := run(t.Context(), []string{"-repo", repo, "-hosts", tt.host.File, "-db", db, "-service", "web", "/app", "show", "/proc/1/comm", "3"}, &out, &errOut)
			if code != 3 || !strings.HasPrefix(out.String(), "app\n") || !strings.Contains(errOut.String(), tt.address) {
				t.Errorf("ended with %d, saying %q and %q\nwant 3, the code of the command, app, which it printed, and %s", code, &out, &errOut, tt.address)
			}
			want := []sandboxer.Reason{"requested", "routed", "ready", "activated", "ttl_extended", "consumer_request", "verified_absent"}
			if diff := cmp.Diff(want, history(t, tt.host, db)); diff != "" {
				t.Errorf("what is recorded (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRefused: what admission refuses is explained, and nothing is recorded.
func TestRefused(t *testing.T) {
	host := hosttest.Local(t)
	db := filepath.Join(t.TempDir(), "records.db")
	repo := repotest.New(t, map[string]string{"compose.yaml": "services: {web: {build: ., privileged: true}}\n"})
	var out, errOut bytes.Buffer
	code := run(t.Context(), []string{"-repo", repo, "-hosts", host.File, "-db", db, "-service", "web", "/app", "exit", "0"}, &out, &errOut)
	if code != notRun || !strings.Contains(errOut.String(), "services.web.privileged") {
		t.Errorf("ended with %d, saying %s", code, &errOut)
	}
	if got := history(t, host, db); len(got) > 0 {
		t.Errorf("recorded: %v", got)
	}
}

func TestNoSuchService(t *testing.T) {
	h := &harness{}
	at := &sandboxer.Reachability{Address: "local:", Services: []sandboxer.Service{{Name: "web"}}}
	for _, service := range []string{"web", "api"} { // web has no container
		if err := h.execute(t.Context(), at, service, nil); !errors.Is(err, sandboxer.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", service, err)
		}
	}
}

// TestKeepAlive: for as long as it works, however long that is, the end of the
// sandbox is nearly one ttl away or more; near the profile's max_ttl the work
// is stopped with the reason, while the sandbox is still there.
func TestKeepAlive(t *testing.T) {
	const ttl, maxTTL = 10 * time.Minute, 4 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		client, err := sandboxer.New(sandboxer.Config{
			Extensions: []sandboxer.Extension{extensiontest.NewFake(extensiontest.FakeConfig{Backend: extensiontest.NewBackend()})},
			Profiles: []sandboxer.Profile{{
				ID: "profile.fake", Isolation: sandboxer.IsolationContainer, Inputs: map[string]sandboxer.Input{"repo": {}},
				TTL: sandboxer.Duration(ttl), MaxTTL: sandboxer.Duration(maxTTL),
			}},
			Store: sandboxer.NewMemoryStore(),
		})
		if err != nil {
			t.Fatal(err)
		}
		consumer := sandboxer.Consumer{Project: "tests", ActorType: sandboxer.ActorAgent, Actor: "go-test"}
		box, err := client.Create(t.Context(), sandboxer.CreateRequest{Profile: "profile.fake", Consumer: consumer})
		if err != nil {
			t.Fatal(err)
		}
		h := &harness{Client: client, ttl: ttl}
		working, stop := h.keepAlive(t.Context(), box.ID)
		defer stop()
		for working.Err() == nil {
			box, err = client.Get(t.Context(), box.ID)
			if left := time.Until(box.ExpiresAt); err != nil || left < ttl*2/3-time.Second {
				t.Fatalf("after %v it lives for %v more, %v", time.Since(box.CreatedAt), left, err)
			}
			time.Sleep(time.Minute)
		}
		if cause := context.Cause(working); !errors.Is(cause, sandboxer.ErrLimit) {
			t.Errorf("the work ended with %v, want ErrLimit", cause)
		}
		if worked := time.Since(box.CreatedAt); worked < maxTTL-ttl || worked > maxTTL {
			t.Errorf("the work was stopped after %v", worked)
		}
	})
}

// history is what happened to all that was recorded, which must have come to its end.
func history(t *testing.T, host *hosttest.Host, db string) []sandboxer.Reason {
	t.Helper()
	store, err := sqlstore.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	all, err := store.List(t.Context(), sandboxer.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if r.Sandbox.State != sandboxer.StateDestroyed {
			t.Errorf("%s is %s, want destroyed", r.Sandbox.ID, r.Sandbox.State)
		}
		host.AssertNothing(r.Sandbox.ID)
	}
	events, err := store.Events(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	var reasons []sandboxer.Reason
	for _, e := range events {
		reasons = append(reasons, e.Reason)
	}
	return reasons
}

// dockerKnows lets the docker command reach the server as it would reach a
// host of its user: by the ssh command, which knows key and host here.
func dockerKnows(t *testing.T, server *sshtest.Server) {
	t.Helper()
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := "#!/bin/sh\nexec " + ssh + " -F /dev/null -o UserKnownHostsFile=" + server.KnownHosts + " -o IdentitiesOnly=yes -i " + server.IdentityFile + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "ssh"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

func TestHelpIsNoFailure(t *testing.T) {
	var out, errOut strings.Builder
	if code := run(t.Context(), []string{"--help"}, &out, &errOut); code != 0 || !strings.Contains(errOut.String(), "-repo") {
		t.Errorf("exit code %d, %q", code, errOut.String())
	}
}
