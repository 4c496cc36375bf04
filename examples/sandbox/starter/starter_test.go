package starter

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer/compose"
	secretsource "github.com/sand-boxer/sandboxer/secrets"
)

func host(t *testing.T, address string) compose.HostConfig {
	t.Helper()
	h, err := compose.ParseHost(address)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestWhatIsWrittenIsRead: as it is, and with every line that is commented out.
func TestWhatIsWrittenIsRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "sandboxer")
	one := host(t, "ssh://me@one.example:2222")
	one.SSHConfig = "~/.ssh/config"
	if _, err := Write(dir, []compose.HostConfig{one, host(t, "local:")}); err != nil {
		t.Fatal(err)
	}
	for _, uncommented := range []bool{false, true} {
		read := func(name string) []byte {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if uncommented {
				return uncomment(text)
			}
			return text
		}
		all, err := compose.ParseHosts("hosts.yaml", read("hosts.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, h := range all {
			names = append(names, h.Name)
		}
		want := []string{"one.example", "local"}
		if uncommented {
			want = append(want, "sandboxer01")
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("hosts: %s", diff)
		}
		if all[0].SSHConfig == "" || all[1].SSHConfig != "" {
			t.Errorf("ssh_config is %q and %q, want it for the first", all[0].SSHConfig, all[1].SSHConfig)
		}
		sources, err := secretsource.ParseConfig("secrets.yaml", read("secrets.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if got := len(sources.Secrets); got != map[bool]int{true: 3}[uncommented] {
			t.Errorf("%d secrets", got)
		}
	}
	for _, name := range []string{"hosts.schema.json", "secrets.schema.json"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

var commented = regexp.MustCompile(`(?m)^( +)# ([a-z-]+:|- |  )`)

func uncomment(text []byte) []byte { return commented.ReplaceAll(text, []byte("$1$2")) }

func TestNothingIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "hosts.yaml")
	if err := os.WriteFile(mine, []byte("# mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := Write(dir, []compose.HostConfig{host(t, "local:")})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Written == strings.HasSuffix(f.Path, "hosts.yaml") {
			t.Errorf("%s: written is %v", f.Path, f.Written)
		}
	}
	if text, err := os.ReadFile(mine); err != nil || string(text) != "# mine\n" {
		t.Errorf("%q, %v", text, err)
	}
}
