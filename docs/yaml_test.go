package docs_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/server"
	"github.com/sand-boxer/sandboxer/profiles"
	"github.com/sand-boxer/sandboxer/secrets"
	"github.com/sand-boxer/sandboxer/statehub"
)

// smallest is what a part of a profile is put behind to make a profile of it.
const smallest = "id: profile.part\nisolation: container\nttl: 1h\nmax_ttl: 1h\ninputs: {repo: {}}\n"

// TestYAMLBlocks: every block of YAML says in its first line what it is, and
// the library takes it as that.
func TestYAMLBlocks(t *testing.T) {
	kind := regexp.MustCompile(`^# (?:yaml-language-server: \$schema=\S*?([a-z-]+)\.schema\.json|(\S.*))\n`)
	seen := map[string]int{}
	for _, page := range pages(t) {
		for _, block := range fences(t, page, "yaml") {
			m := kind.FindStringSubmatch(block.text)
			if m == nil {
				t.Errorf("%s: the first line does not say what this is: # profile, # compose.yaml or the schema\n%s", page, block.text)
				continue
			}
			seen[m[1]+m[2]]++
			if err := takes(t, m[1]+m[2], page, []byte(block.text)); err != nil {
				t.Errorf("%s: as %s: %v\n%s", page, m[1]+m[2], err, block.text)
			}
		}
	}
	for _, want := range []string{"profile", "hosts", "hub", "secrets", "compose.yaml"} {
		if seen[want] == 0 {
			t.Errorf("no page shows a %s", want)
		}
	}
}

// takes decodes a document strictly.
func takes(t *testing.T, kind, page string, text []byte) (err error) {
	t.Helper()
	switch kind {
	case "profile":
		if !strings.Contains(string(text), "\nid: ") {
			text = append([]byte(smallest), text...)
		}
		_, err = sandboxer.ParseProfile(page, text)
	case "extension":
		_, err = sandboxer.ParseManifest(page, text)
	case "hosts":
		_, err = compose.ParseHosts(page, text)
	case "hub":
		_, err = statehub.ParseConfig(page, text)
	case "secrets", "secrets.yaml":
		_, err = secrets.ParseConfig(page, text)
	case "tokens.yaml":
		here := bytes.ReplaceAll(text, []byte("/srv/repos/shop"), []byte(t.TempDir())) // a directory that there has to be
		_, err = server.ParseTokens(page, here)
	case "compose.yaml":
		err = admitted(t, text)
	default:
		t.Errorf("%s: nothing is known of a document %q", page, kind)
	}
	return err
}

// admitted judges a compose file by the reference profile, with a secret.
func admitted(t *testing.T, text []byte) error {
	t.Helper()
	repo := t.TempDir()
	if err := os.WriteFile(filepath.Join(repo, "compose.yaml"), text, 0o600); err != nil {
		return err
	}
	known, err := profiles.Load()
	if err != nil {
		return err
	}
	profile := known[0]
	profile.Setup.SecretRefs = []string{"token"}
	ext, err := compose.New(compose.Config{})
	if err != nil {
		return err
	}
	defer ext.Close()
	admission, err := ext.Admit(context.Background(), sandboxer.ProvisionRequest{Profile: profile, Inputs: map[string]string{"repo": repo}})
	if err == nil && admission.Verdict != sandboxer.Allow {
		err = &sandboxer.AdmissionError{Admission: admission}
	}
	return err
}
