package compose

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/admission"
)

// What a profile says of builds stands in the file that the host's compose reads.
func TestBuildEgressOfAProfile(t *testing.T) {
	repo := t.TempDir()
	for name, text := range map[string]string{"compose.yaml": "services: {a: {build: .}, b: {build: {context: ., network: none}}}", "Dockerfile": "FROM scratch\n"} {
		if err := os.WriteFile(filepath.Join(repo, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]struct {
		config string
		a, b   string // the networks of the builds
	}{
		"nothing":            {`{}`, "", "none"},
		"allowed":            {`{"build_egress": "allow"}`, "", "none"},
		"denied":             {`{"build_egress": "deny"}`, "none", "none"},
		"denied, of several": {`{"build_egress": "deny", "max_containers": 3}`, "none", "none"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d, err := new(Extension).draft(t.Context(), sandboxer.ProvisionRequest{
				SandboxID: "abcdefghij0123456789", Generation: 1, Inputs: map[string]string{inputRepo: repo},
				Profile: sandboxer.Profile{Isolation: container, Network: sandboxer.Network{Egress: sandboxer.EgressDeny}, Config: json.RawMessage(tt.config)},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer d.close()
			text, err := d.plan.Render(admission.Placement{
				Project: "sbx-abcdefghij0123456789", Workdir: "/w", PinDir: "/p", SecretDir: "/s", Subnets: map[string]netip.Prefix{"default": netip.MustParsePrefix("10.1.0.0/28")},
			})
			if err != nil {
				t.Fatal(err)
			}
			var file struct {
				Services map[string]struct{ Build struct{ Network string } }
			}
			if err := yaml.Unmarshal(text, &file); err != nil {
				t.Fatal(err)
			}
			got := map[string]string{"a": file.Services["a"].Build.Network, "b": file.Services["b"].Build.Network}
			if diff := cmp.Diff(map[string]string{"a": tt.a, "b": tt.b}, got); diff != "" {
				t.Errorf("networks of the builds (-want +got):\n%s", diff)
			}
		})
	}
}
