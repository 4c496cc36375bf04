package main

import (
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
)

const secretProfile = `id: profile.secrets
isolation: container
ttl: 30m
max_ttl: 1h
inputs: {repo: {required: true}}
setup: {secret_refs: [PASSWORD, token, key]}
`

// TestSecrets come from a variable, a file and a command, each where the
// operator says, reach the services, and are in nothing that is printed.
func TestSecrets(t *testing.T) {
	hosttest.Require(t)
	c := newCLI(t, "name: here\naddress: 'local:'")
	dir, canary := t.TempDir(), "canary-"+rand.Text()
	repotest.Write(t, filepath.Join(dir, "profiles", "secrets.yaml"), secretProfile, 0o644)
	repotest.Write(t, filepath.Join(dir, "key"), canary+"-file", 0o600)
	repotest.Write(t, filepath.Join(dir, "secrets.yaml"), "secrets:\n  token: {command: [sh, -c, 'cat "+dir+"/command']}\n  PASSWORD: {env: NOT_SET_AT_ALL}\n", 0o644)
	repotest.Write(t, filepath.Join(dir, "command"), canary+"-command\n", 0o600)
	t.Setenv("CLI_TEST_PASSWORD", canary+"-variable")
	repo := repotest.New(t, map[string]string{"compose.yaml": `
services:
  web: {build: ., command: [serve, "8080", hello], secrets: [PASSWORD, token, key]}
secrets: {PASSWORD: {environment: PASSWORD}, token: {external: true}, key: {file: ./key}}
`})
	failing := repotest.New(t, map[string]string{"compose.yaml": `
services:
  web: {build: ., command: [show, /run/secrets/PASSWORD, "3"], secrets: [PASSWORD]}
secrets: {PASSWORD: {environment: PASSWORD}}
`})
	var told strings.Builder
	run := func(want int, args ...string) string {
		t.Helper()
		args = append(args, "--profiles", filepath.Join(dir, "profiles"), "--secrets", filepath.Join(dir, "secrets.yaml"), "--secret", "key=file:"+filepath.Join(dir, "key"))
		code, out, errOut := c.run(args...)
		if code != want {
			t.Fatalf("%q ended with %d, want %d:\n%s%s", args, code, want, out, errOut)
		}
		told.WriteString(out + errOut)
		return out
	}
	request := func(repo string) []string { return []string{"--profile", "profile.secrets", "--input", "repo=" + repo} }
	run(exitNotFound, append([]string{"plan"}, request(repo)...)...) // the variable is not set
	run(exitNotFound, append([]string{"create"}, request(repo)...)...)
	password := []string{"--secret", "PASSWORD=env:CLI_TEST_PASSWORD"}
	run(exitDone, append(append([]string{"plan", "--json"}, request(repo)...), password...)...)
	box := decode[sandboxer.Sandbox](t, run(exitDone, append(append([]string{"create", "--json", "-v"}, request(repo)...), password...)...))
	t.Cleanup(func() { c.must("destroy", box.ID); c.host.AssertNothing(box.ID) })
	run(exitDone, "get", box.ID, "--json")
	run(exitDone, "list", "--json")
	run(exitDone, "events", box.ID, "--json")
	for name, want := range map[string]string{"PASSWORD": "-variable", "token": "-command", "key": "-file"} {
		got, err := exec.Command("docker", "exec", box.Reachability.Services[0].Containers[0], "/app", "show", "/run/secrets/"+name, "0").CombinedOutput()
		if err != nil || !strings.HasPrefix(string(got), canary+want+"\n") {
			t.Errorf("%s is %q, %v; want %q", name, got, err, canary+want)
		}
	}
	run(exitFailed, append(append([]string{"create", "--json"}, request(failing)...), password...)...)
	run(exitFailed, append(append([]string{"create"}, request(failing)...), password...)...)
	run(exitDone, "events", "--json")
	db, err := os.ReadFile(c.db)
	if err != nil {
		t.Fatal(err)
	}
	told.Write(db)
	if i := strings.Index(told.String(), canary); i >= 0 {
		t.Errorf("a secret is told: %q", told.String()[max(0, i-200):i+40])
	}
	if !strings.Contains(told.String(), "[secret PASSWORD]") {
		t.Error("nothing was taken out of the log of the service that prints its secret")
	}
}

// TestSecretFlag: a value in the wrong place is refused and not repeated.
func TestSecretFlag(t *testing.T) {
	c := newCLI(t, "name: here\naddress: 'local:'")
	for _, flag := range []string{"hunter2", "a=hunter2", "=env:hunter2", "a=value:hunter2", "a=env:hunter2 x"} {
		code, out, errOut := c.run("list", "--secret", flag)
		if code != exitUsage || strings.Contains(out+errOut, "hunter2") {
			t.Errorf("%s: exit code %d, %s%s", flag, code, out, errOut)
		}
	}
}
