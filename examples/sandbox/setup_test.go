package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sand-boxer/sandboxer/examples/sandbox/doctor"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
)

// TestNewcomer: init writes a configuration that doctor and plan then use.
func TestNewcomer(t *testing.T) {
	hosttest.Require(t)
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("XDG_STATE_HOME", "")
	for _, name := range []string{"SANDBOXER_DB", "SANDBOXER_HOSTS", "SANDBOXER_HUB", "SANDBOXER_PROFILES", "SANDBOXER_SECRETS"} {
		t.Setenv(name, "")
	}
	plain := &cli{t: t, bare: true}
	written := strings.Fields(plain.must("init"))
	hosts := filepath.Join(home, ".config", "sandboxer", "hosts.yaml")
	if len(written) != 4 || written[0] != hosts {
		t.Fatalf("wrote %q", written)
	}
	if code, out, errOut := plain.run("init"); code != 0 || out != "" || !strings.Contains(errOut, hosts+" is there already") {
		t.Errorf("the second time: exit code %d, %q, %q", code, out, errOut)
	}
	out := plain.must("doctor", "--json")
	schema(t, "diagnosis", out)
	d := decode[doctor.Diagnosis](t, out)
	if d.Worst() == doctor.Failure {
		t.Errorf("something does not work: %s", out)
	}
	text := plain.must("doctor")
	for _, want := range []string{"1 from " + hosts, "host local", "engine ", "none configured"} {
		if !strings.Contains(text, want) {
			t.Errorf("doctor does not say %q:\n%s", want, text)
		}
	}
	plain.must("plan", "-q", "--input", "repo="+repotest.Demo(t))
}

// TestDoctorSaysWhatToFix: one broken part does not hide another.
func TestDoctorSaysWhatToFix(t *testing.T) {
	t.Run("configuration", func(t *testing.T) {
		c := newCLI(t, "address: \"local:\"\nslot: 3")
		bad := filepath.Join(t.TempDir(), "secrets.yaml")
		writeFile(t, bad, "secrets: {a: {environment: A}}\n")
		code, out, errOut := c.run("doctor", "--secrets", bad)
		if code != exitFailed {
			t.Errorf("exit code %d, want %d: %s", code, exitFailed, errOut)
		}
		for _, want := range []string{"failure", "slot: unknown key", "environment: unknown key", "profiles"} {
			if !strings.Contains(out, want) {
				t.Errorf("does not say %q:\n%s", want, out)
			}
		}
	})
	t.Run("host", func(t *testing.T) {
		c := newCLI(t, "address: \"local:\"\nengine_socket: /run/none.sock")
		code, out, _ := c.run("doctor", "--json")
		schema(t, "diagnosis", out)
		last := decode[doctor.Diagnosis](t, out).Findings
		f := last[len(last)-1]
		if code != exitNoHost || f.Level != doctor.Failure || f.Subject != "host local" || !strings.Contains(f.Fix, "start the Docker Engine") {
			t.Errorf("exit code %d: %+v", code, f)
		}
	})
	t.Run("records", func(t *testing.T) {
		c := newCLI(t, `address: "local:"`)
		writeFile(t, c.db, "no database")
		code, out, _ := c.run("doctor")
		if code != exitFailed || !strings.Contains(out, "failure  records") {
			t.Errorf("exit code %d:\n%s", code, out)
		}
	})
}

// findings are what doctor says of a subject.
func (c *cli) findings(subject string, args ...string) []doctor.Finding {
	c.t.Helper()
	_, out, _ := c.run(append([]string{"doctor", "--json"}, args...)...)
	var found []doctor.Finding
	for _, f := range decode[doctor.Diagnosis](c.t, out).Findings {
		if f.Subject == subject {
			found = append(found, f)
		}
	}
	return found
}

// noEngine is a host that is found wanting at once.
const noEngine = "address: \"local:\"\nengine_socket: /run/none.sock"

// TestDoctorOfSecrets: those that would not be found are told, configured or
// named by a profile.
func TestDoctorOfSecrets(t *testing.T) {
	c := newCLI(t, noEngine)
	dir := t.TempDir()
	t.Setenv("DOCTOR_TEST_SECRET", "x")
	sources := filepath.Join(dir, "secrets.yaml")
	writeFile(t, sources, "secrets: {there: {env: DOCTOR_TEST_SECRET}, gone: {env: DOCTOR_TEST_NONE}}\n")
	repotest.Write(t, filepath.Join(dir, "profiles", "p.yaml"), "id: profile.p\nisolation: container\nttl: 1h\nmax_ttl: 1h\ninputs: {repo: {}}\nsetup: {secret_refs: [there, unheard-of]}\n", 0o600)
	args := []string{"--secrets", sources, "--profiles", filepath.Join(dir, "profiles")}
	if f := c.findings("secret there", args...); len(f) != 0 {
		t.Errorf("%+v", f)
	}
	for name, says := range map[string]string{"gone": "DOCTOR_TEST_NONE", "unheard-of": "no source"} {
		if f := c.findings("secret "+name, args...); len(f) != 1 || f[0].Level != doctor.Failure || !strings.Contains(f[0].Detail, says) || f[0].Fix == "" {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// TestDoctorOfAHub: that nothing waits for it does not say that it is there.
func TestDoctorOfAHub(t *testing.T) {
	var status, more atomic.Int32
	status.Store(http.StatusMethodNotAllowed)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead {
			more.Add(1)
		}
		w.WriteHeader(int(status.Load()))
	}))
	defer server.Close()
	c := newCLI(t, noEngine).withHub(t, "url: "+server.URL+"\n")
	hub := func() doctor.Finding {
		t.Helper()
		found := c.findings("State Hub") // the first is where it is configured
		return found[1]
	}
	if f := hub(); f.Level != doctor.OK {
		t.Errorf("a hub that answers: %+v", f)
	}
	status.Store(http.StatusUnauthorized)
	if f := hub(); f.Level != doctor.Warning || !strings.Contains(f.Detail, "401") || !strings.Contains(f.Fix, "token") {
		t.Errorf("a hub that refuses the token: %+v", f)
	}
	server.Close()
	if f := hub(); f.Level != doctor.Warning || !strings.Contains(f.Detail, "refused") || f.Fix == "" {
		t.Errorf("a hub that is down: %+v", f)
	}
	if n := more.Load(); n > 0 {
		t.Errorf("doctor sends %d requests that are no HEAD", n)
	}
}

// TestDoctorChangesNothing: no database is made and no event delivered.
func TestDoctorChangesNothing(t *testing.T) {
	var delivered atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead {
			delivered.Add(1)
		}
	}))
	defer server.Close()
	c := newCLI(t, noEngine).withHub(t, "url: "+server.URL+"\n")
	if f := c.findings("records"); len(f) != 1 || f[0].Level != doctor.OK || !strings.Contains(f[0].Detail, c.db+", which the first sandbox makes") {
		t.Errorf("%+v", f)
	}
	if _, err := os.Stat(c.db); err == nil {
		t.Error("doctor makes a database")
	}
	c.records()
	if f := c.findings("State Hub"); len(f) != 2 || !strings.Contains(f[1].Detail, "events are not delivered") {
		t.Errorf("%+v", f)
	}
	if f := c.findings("sandboxes"); len(f) != 1 || !strings.HasPrefix(f[0].Detail, "2 recorded") {
		t.Errorf("%+v", f)
	}
	if n := delivered.Load(); n > 0 {
		t.Errorf("doctor delivers events: %d requests", n)
	}
}

// TestInitNamesHosts: every other command reads what was written.
func TestInitNamesHosts(t *testing.T) {
	for _, tt := range []struct{ addresses, names string }{
		{"", "local"},
		{"ssh://me@h ssh://me@h:2222 ssh://you@h", "h h-2 h-3"},
		{"ssh://me@h-2 ssh://me@h ssh://me@h:2222", "h-2 h h-3"},
		{"ssh://me@[::1]:22 local:", "1 local"},
		{"ssh://me@192.0.2.1 ssh://me@192.0.2.1:2222", "192.0.2.1 192.0.2.1-2"},
	} {
		t.Run(tt.addresses, func(t *testing.T) {
			dir := t.TempDir()
			(&cli{t: t, bare: true}).must(append([]string{"init", "--dir", dir}, strings.Fields(tt.addresses)...)...)
			c := &cli{t: t, db: filepath.Join(dir, "records.db"), hosts: filepath.Join(dir, "hosts.yaml")}
			c.offers("create --host ", strings.Fields(tt.names)...)
		})
	}
}

// TestInitAgain: what is there is left alone, and what it lacks is said.
func TestInitAgain(t *testing.T) {
	dir := t.TempDir()
	c := &cli{t: t, bare: true}
	c.must("init", "--dir", dir, "ssh://me@one", "ssh://me@two")
	before, err := os.ReadFile(filepath.Join(dir, "hosts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		addresses string
		code      int
		says      []string
	}{
		{"", exitDone, []string{"is there already"}},
		{"ssh://me@two", exitDone, []string{"is there already"}},
		{"ssh://me@two ssh://me@three ssh://me@four", exitConflict, []string{"without ssh://me@three and ssh://me@four", "  - address: ssh://me@three\n", "  - address: ssh://me@four\n"}},
	} {
		code, _, errOut := c.run(append([]string{"init", "--dir", dir}, strings.Fields(tt.addresses)...)...)
		if code != tt.code {
			t.Errorf("%q: exit code %d, want %d: %s", tt.addresses, code, tt.code, errOut)
		}
		for _, want := range tt.says {
			if !strings.Contains(errOut, want) {
				t.Errorf("%q does not say %q:\n%s", tt.addresses, want, errOut)
			}
		}
	}
	if after, err := os.ReadFile(filepath.Join(dir, "hosts.yaml")); err != nil || string(after) != string(before) {
		t.Errorf("%v: it is now\n%s", err, after)
	}
}

func TestInitBadInput(t *testing.T) {
	for _, tt := range []struct {
		addresses []string
		says      string
	}{
		{[]string{"ftp://host"}, "ftp"},
		{[]string{"ssh://me@h", "ssh://me@h"}, "given twice"},
	} {
		dir := filepath.Join(t.TempDir(), "x")
		code, _, errOut := (&cli{t: t, bare: true}).run(append([]string{"init", "--dir", dir}, tt.addresses...)...)
		if code != exitUsage || !strings.Contains(errOut, tt.says) {
			t.Errorf("exit code %d: %s", code, errOut)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Error("wrote something")
		}
	}
}
