package main

import (
	"os"
	"path/filepath"
	"strings"
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

func TestInitBadInput(t *testing.T) {
	c := newCLI(t, `address: "local:"`)
	dir := filepath.Join(t.TempDir(), "x")
	code, _, errOut := c.run("init", "--dir", dir, "ftp://host")
	if code != exitUsage || !strings.Contains(errOut, "ftp") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("wrote something")
	}
}
