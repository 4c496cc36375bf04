package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
	"github.com/sand-boxer/sandboxer/secrets"
	"github.com/sand-boxer/sandboxer/sqlstore"
)

// TestNoValueIsTold: the service reads its secret, the record has the metadata
// and the secret's name, and the value is in nothing that is printed, recorded,
// logged, planned or kept by the engine; not where the service prints it and
// dies of it, either.
func TestNoValueIsTold(t *testing.T) {
	host := hosttest.Local(t)
	value := "canary-" + rand.Text()
	t.Setenv("INVENTOR_TEST_TOKEN", value)
	db := filepath.Join(t.TempDir(), "records.db")
	var out, errOut, seen bytes.Buffer
	invent := func(command string, use func(context.Context, *inventor, *sandboxer.Sandbox) error) error {
		repo := repotest.New(t, map[string]string{"compose.yaml": "services: {web: {build: ., command: [" + command + "], secrets: [token]}}\nsecrets: {token: {external: true}}\n"})
		return run(t.Context(), []string{"-repo", repo, "-hosts", host.File, "-db", db, "-meta", "template=go-service", "-secret", "token=env:INVENTOR_TEST_TOKEN"}, use, &out, &errOut)
	}

	var id string
	err := invent(`serve, "8080", hello`, func(ctx context.Context, i *inventor, box *sandboxer.Sandbox) error {
		id = box.ID
		want := sandboxer.Setup{Metadata: map[string]string{"template": "go-service"}, SecretRefs: []string{"token"}}
		if diff := cmp.Diff(want, box.Profile.Setup); diff != "" {
			t.Errorf("setup in the record (-want +got):\n%s", diff)
		}
		container := box.Reachability.Services[0].Containers[0]
		if got := docker(t, "exec", container, "/app", "show", "/run/secrets/token", "0"); !strings.HasPrefix(got, value+"\n") {
			t.Errorf("the service reads %q, want its secret", got)
		}
		plan, err := i.Plan(ctx, sandboxer.CreateRequest{Profile: profileID, Inputs: box.Inputs, Consumer: box.Consumer}, sandboxer.PlanOptions{Probe: true})
		if err != nil {
			t.Error(err)
		}
		document, err := json.Marshal(plan)
		if err != nil {
			t.Error(err)
		}
		seen.Write(document)
		seen.WriteString(inspected(t, box.ID))
		return nil
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, &errOut)
	}
	if !strings.Contains(out.String(), "hold no value of a secret") {
		t.Errorf("the program did not look for itself: %s", &out)
	}
	host.AssertNothing(id)

	err = invent(`show, /run/secrets/token, "3"`, nil)
	var dead *sandboxer.NotReadyError
	if !errors.As(err, &dead) || !strings.Contains(dead.Log, "[secret token]") {
		t.Fatalf("got %v, want the log of the service without what it printed", err)
	}
	seen.WriteString(err.Error() + dead.Log + sandboxer.Hint(err))

	seen.Write(out.Bytes())
	seen.Write(errOut.Bytes())
	seen.WriteString(recorded(t, host, db))
	for _, form := range []string{value, base64.StdEncoding.EncodeToString([]byte(value))} {
		if at := bytes.Index(seen.Bytes(), []byte(form)); at >= 0 {
			t.Errorf("a value is told: …%q…", seen.Bytes()[max(0, at-200):at])
		}
	}
}

// TestAuditFindsAValue: what the program looks for it would find.
func TestAuditFindsAValue(t *testing.T) {
	t.Setenv("INVENTOR_TEST_TOKEN", "go-service")
	source, err := secrets.ParseSource("env:INVENTOR_TEST_TOKEN")
	if err != nil {
		t.Fatal(err)
	}
	i := &inventor{metadata: map[string]string{"template": "go-service"}, sources: secrets.Sources{"token": source}, out: io.Discard}
	profile, err := i.profile()
	if err != nil {
		t.Fatal(err)
	}
	i.Client, err = sandboxer.New(sandboxer.Config{
		Extensions: []sandboxer.Extension{extensiontest.NewFake(extensiontest.FakeConfig{Backend: extensiontest.NewBackend(), ID: profile.Extension})},
		Profiles:   []sandboxer.Profile{profile}, Store: sandboxer.NewMemoryStore(), Secrets: i.sources,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.invent(t.Context(), t.TempDir(), show); err == nil || !strings.Contains(err.Error(), "the value of secret token is in the record") {
		t.Errorf("got %v", err)
	}
}

// docker is the engine's own command.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// inspected is all that the engine tells of the objects of a sandbox.
func inspected(t *testing.T, id string) string {
	t.Helper()
	var all strings.Builder
	for _, kind := range []string{"container", "network", "volume", "image"} {
		list := []string{kind, "ls", "-q", "--filter", "label=dev.sandboxer.id=" + id}
		if names := strings.Fields(docker(t, list...)); len(names) > 0 {
			all.WriteString(docker(t, append([]string{kind, "inspect"}, names...)...))
		} else if kind == "container" {
			t.Error("the engine has no container of the sandbox: this test looks for the wrong thing")
		}
	}
	return all.String()
}

// recorded is every record and event, and the files that hold them.
func recorded(t *testing.T, host *hosttest.Host, db string) string {
	t.Helper()
	store, err := sqlstore.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	records, err := store.List(t.Context(), sandboxer.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 2 {
		t.Errorf("%d sandboxes are recorded, want 2", len(records))
	}
	for _, r := range records {
		host.AssertNothing(r.Sandbox.ID)
	}
	events, err := store.Events(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"records": records, "events": events})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(db + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, content...)
	}
	return string(text)
}
