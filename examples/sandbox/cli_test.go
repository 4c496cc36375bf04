package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

// TestTheFiveCalls are the workplan's, as written there, on this machine and
// on a real OpenSSH server.
func TestTheFiveCalls(t *testing.T) {
	hosttest.Require(t)
	t.Run("local", func(t *testing.T) { fiveCalls(t, newCLI(t, `address: "local:"`)) })
	t.Run("ssh", func(t *testing.T) {
		server := sshtest.Start(t, sshtest.Options{})
		fiveCalls(t, newCLI(t, "name: sandboxer01\naddress: ssh://"+server.User+"@"+server.Addr+
			"\nknown_hosts: ["+server.KnownHostsFor(server.Addr)+"]\nidentity_files: ["+server.IdentityFile+"]"))
	})
}

func fiveCalls(t *testing.T, c *cli) {
	repo := repotest.Demo(t)
	created := c.must("create", "--profile", "profile.compose-e2e", "--input", "repo="+repo, "--json")
	schema(t, "sandbox", created)
	id := decode[sandboxer.Sandbox](t, created).ID
	t.Cleanup(func() { c.run("destroy", id) })

	got := c.must("get", id, "--json")
	schema(t, "sandbox", got)
	if s := decode[sandboxer.Sandbox](t, got); s.State != sandboxer.StateReady || s.Observed == nil || s.Observed.Presence != sandboxer.Present {
		t.Errorf("get says %s, observed %+v; want ready and present", s.State, s.Observed)
	}
	list := c.must("list", "--json")
	schema(t, "sandbox-list", list)
	if all := decode[[]sandboxer.Sandbox](t, list); len(all) != 1 || all[0].ID != id {
		t.Errorf("list gives %s", list)
	}
	recreated := c.must("recreate", id, "--json")
	schema(t, "sandbox", recreated)
	if s := decode[sandboxer.Sandbox](t, recreated); s.ID != id || s.Generation != 2 || s.State != sandboxer.StateReady {
		t.Errorf("recreate gives %s generation %d %s", s.ID, s.Generation, s.State)
	}
	destroyed := c.must("destroy", id, "--json")
	schema(t, "sandbox", destroyed)
	c.must("destroy", id)
	for line := range strings.Lines(c.must("events", id, "--json")) {
		schema(t, "event", line)
	}
	c.assertHistory()
}

// TestEveryDocumentMatchesItsSchema covers the commands that need no sandbox.
func TestEveryDocumentMatchesItsSchema(t *testing.T) {
	hosttest.Require(t)
	c := newCLI(t, `address: "local:"`)
	for _, tt := range []struct {
		schema string
		args   []string
	}{
		{"plan", []string{"plan", "--input", "repo=" + repotest.Demo(t), "--json"}},
		{"sandbox-list", []string{"list", "--all", "--json"}},
		{"host-status-list", []string{"hosts", "--json"}},
		{"report", []string{"reconcile", "--json"}},
		{"sandbox-list", []string{"reap", "--json"}},
		{"profile-list", []string{"profiles", "--json"}},
		{"profile", []string{"profiles", "profile.compose-e2e", "--json"}},
		{"extension-list", []string{"extensions", "--json"}},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) { schema(t, tt.schema, c.must(tt.args...)) })
	}
}

// TestBadInput: a message that says what to do, the right exit code, and
// nothing created.
func TestBadInput(t *testing.T) {
	c := newCLI(t, `address: "local:"`)
	empty, broken, privileged := t.TempDir(), t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(broken, "compose.yaml"), "services:\n  web:\n   image: x\n  image: [\n")
	writeFile(t, filepath.Join(privileged, "compose.yaml"), "services:\n  web:\n    image: x\n    privileged: true\n")
	tests := []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"no such command", []string{"make"}, exitUsage, []string{"make", "--help"}},
		{"nearly a command", []string{"destory"}, exitUsage, []string{"did you mean destroy?"}},
		{"no such flag", []string{"create", "--inputs", "x"}, exitUsage, []string{"--inputs"}},
		{"malformed input", []string{"create", "--input", "repo"}, exitUsage, []string{"name=value"}},
		{"no such profile", []string{"create", "--profile", "profile.none", "--input", "repo=."}, exitNotFound, []string{"profile.none", "profile.compose-e2e"}},
		{"no such host", []string{"create", "--input", "repo=" + empty, "--host", "mars"}, exitNotFound, []string{"mars", "local"}},
		{"no such repository", []string{"create", "--input", "repo=/no/such/dir"}, exitNotFound, []string{"/no/such/dir", "repo"}},
		{"no compose file", []string{"create", "--input", "repo=" + empty}, exitNotFound, []string{"compose.yaml", "docker-compose.yml", "e2e/"}},
		{"broken compose file", []string{"create", "--input", "repo=" + broken}, exitRefused, []string{"compose.yaml:5", "YAML"}},
		{"refused by admission", []string{"create", "--input", "repo=" + privileged}, exitRefused, []string{"compose.yaml:4", "services.web.privileged", "PRIVILEGED"}},
		{"missing required input", []string{"create"}, exitUsage, []string{"inputs.repo", "required"}},
		{"undeclared input", []string{"create", "--input", "repo=.", "--input", "color=red"}, exitUsage, []string{"color", "not declared"}},
		{"missing consumer", []string{"create", "--input", "repo=.", "--project", ""}, exitUsage, []string{"consumer.project", "required"}},
		{"wrong actor type", []string{"create", "--input", "repo=.", "--actor-type", "bot"}, exitUsage, []string{"bot", "adm", "agt", "atm"}},
		{"ttl over the maximum", []string{"create", "--input", "repo=.", "--ttl", "900h"}, exitRefused, []string{"900h", "8h"}},
		{"get unknown", []string{"get", "aaaaaaaaaaaaaaaaaaaa"}, exitNotFound, []string{"aaaaaaaaaaaaaaaaaaaa", "not found"}},
		{"extend unknown", []string{"extend", "aaaaaaaaaaaaaaaaaaaa", "1h"}, exitNotFound, []string{"not found"}},
		{"destroy unknown", []string{"destroy", "aaaaaaaaaaaaaaaaaaaa"}, exitNotFound, []string{"not found"}},
		{"not a duration", []string{"extend", "aaaaaaaaaaaaaaaaaaaa", "soon"}, exitUsage, []string{"soon", "30m"}},
		{"no such host to harden", []string{"hosts", "harden", "mars"}, exitNotFound, []string{"mars", "not found"}},
		{"no such schema", []string{"schema", "none"}, exitNotFound, []string{"none", "profile"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out, errOut := c.run(tt.args...)
			if code != tt.code || out != "" {
				t.Errorf("exit code %d with output %q, want %d and none\n%s", code, out, tt.code, errOut)
			}
			for _, want := range tt.says {
				if !strings.Contains(errOut, want) {
					t.Errorf("message does not say %q:\n%s", want, errOut)
				}
			}
			t.Log(errOut)
		})
	}
	if list := c.must("list", "--all", "-q"); list != "" {
		t.Errorf("something was recorded: %s", list)
	}
}

// TestHostsCheck: of a host that can be used and of one that cannot it is told
// what they are, and what that means.
func TestHostsCheck(t *testing.T) {
	c := newCLI(t, "address: \"local:\"")
	writeFile(t, c.hosts, "hosts: [{name: good, address: \"local:\", root: "+c.host.Root+"}, {name: bad, address: \"local:\", engine_socket: /run/none.sock}]\n")
	firewall := decode[[]sandboxer.HostStatus](t, c.must("hosts", "check", "good", "--json"))[0].Facts["firewall"]
	told := c.must("hosts", "check", "good")
	for _, want := range []string{"good at local:", "usable", "yes", "firewall", firewall, "isolation"} {
		if !strings.Contains(told, want) {
			t.Errorf("it does not say %q:\n%s", want, told)
		}
	}
	if strings.Contains(told, "bad") {
		t.Errorf("it tells of a host that was not named:\n%s", told)
	}
	code, told, errOut := c.run("hosts", "check")
	if code != exitNoHost || !strings.Contains(told, "no: ") || !strings.Contains(told, "remedy") || !strings.Contains(told, "good at") {
		t.Errorf("of both, exit code %d:\n%s%s", code, told, errOut)
	}
	if code, _, errOut := c.run("hosts", "check", "mars"); code != exitNotFound || !strings.Contains(errOut, "mars") {
		t.Errorf("of one that is not configured, exit code %d: %s", code, errOut)
	}
}

// TestHostsThatCannotBeUsed: typed, explained, tried once.
func TestHostsThatCannotBeUsed(t *testing.T) {
	hosttest.Require(t)
	server := sshtest.Start(t, sshtest.Options{})
	stranger := sshtest.Start(t, sshtest.Options{})
	target := "name: there\naddress: ssh://" + server.User + "@" + server.Addr
	known := "\nknown_hosts: [" + server.KnownHostsFor(server.Addr) + "]"
	key := "\nidentity_files: [" + server.IdentityFile + "]"
	none := filepath.Join(t.TempDir(), "known_hosts")
	writeFile(t, none, "")
	changed := filepath.Join(t.TempDir(), "known_hosts")
	writeFile(t, changed, sshtest.KnownHostsName(server.Addr)+" "+stranger.HostKey("ed25519")+"\n")
	tests := []struct {
		name, host string
		says       []string
	}{
		{"unknown host key", target + "\nknown_hosts: [" + none + "]" + key, []string{"unknown", "SHA256:"}},
		{"changed host key", target + "\nknown_hosts: [" + changed + "]" + key, []string{"changed", "SHA256:", changed}},
		{"refused credentials", target + known + "\nidentity_files: [" + stranger.IdentityFile + "]", []string{"authentication", "authorized_keys"}},
		{"nobody listens", "name: there\naddress: ssh://root@127.0.0.1:1" + known + key, []string{"refused", "127.0.0.1:1"}},
		{"no engine", "address: \"local:\"\nengine_socket: /run/none.sock", []string{"/run/none.sock", "start the Docker Engine"}},
	}
	repo := smallRepo(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCLI(t, tt.host)
			before := server.Connections()
			code, _, errOut := c.run("create", "--input", "repo="+repo)
			if code != exitNoHost {
				t.Errorf("exit code %d, want %d", code, exitNoHost)
			}
			for _, want := range tt.says {
				if !strings.Contains(errOut, want) {
					t.Errorf("message does not say %q:\n%s", want, errOut)
				}
			}
			if tt.name == "refused credentials" && server.Connections()-before != 1 {
				t.Errorf("%d connections with refused credentials, want 1", server.Connections()-before)
			}
			if list := c.must("list", "--all", "-q"); list != "" {
				t.Errorf("something was recorded: %s", list)
			}
		})
	}
}

// TestPlanNeedsNoEngine: it judges, contacts no host and creates nothing.
func TestPlanNeedsNoEngine(t *testing.T) {
	c := newCLI(t, "name: far\naddress: ssh://nobody@192.0.2.1:22")
	out := c.must("plan", "--input", "repo="+repotest.Demo(t), "--json")
	schema(t, "plan", out)
	plan := decode[sandboxer.Plan](t, out)
	if plan.Route.Chosen != "far" || plan.Admission.Verdict != sandboxer.Allow || len(plan.Admission.Rewrites) == 0 {
		t.Errorf("plan: %s", out)
	}
	denied := t.TempDir()
	writeFile(t, filepath.Join(denied, "compose.yaml"), "services: {web: {image: x, pid: host}}\n")
	code, out, _ := c.run("plan", "--input", "repo="+denied, "--json")
	schema(t, "plan", out)
	if code != exitRefused || decode[sandboxer.Plan](t, out).Admission.Verdict != sandboxer.Deny {
		t.Errorf("exit code %d: %s", code, out)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
