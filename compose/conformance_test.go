package compose_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/extensiontest"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

// TestConformance runs the kit that every extension must pass, on the real
// engine, on this machine and through a real OpenSSH server.
func TestConformance(t *testing.T) {
	t.Parallel()
	hosttest.Require(t)
	t.Run("local", func(t *testing.T) {
		t.Parallel()
		conform(t, nil, compose.HostConfig{Name: "here", Address: "local:", Root: filepath.Join(t.TempDir(), "host")})
	})
	t.Run("ssh", func(t *testing.T) {
		t.Parallel()
		server := sshtest.Start(t, sshtest.Options{})
		conform(t, server, sshHost(t, server, server.Addr))
	})
}

// conform runs the kit; with a server the host can be made unreachable.
func conform(t *testing.T, server *sshtest.Server, host compose.HostConfig) {
	repo := repotest.New(t, map[string]string{"compose.yaml": `
services:
  web:
    image: ` + importedImage(t) + `
    command: [serve, "8080", hello]
    ports: ["18081:8080"]
    volumes: ["data:/data"]
    secrets: [token]
volumes: {data: {}}
secrets: {token: {external: true}}
`})
	host.CacheTTL = sandboxer.Duration(time.Hour) // the kit makes many of the same tree
	r := &rig{root: host.Root}
	harness := extensiontest.Harness{
		New: func() (sandboxer.Extension, error) {
			return compose.New(compose.Config{Hosts: []compose.HostConfig{host}})
		},
		Request: sandboxer.ProvisionRequest{
			Host: host.Name, Profile: conformanceProfile(), Inputs: map[string]string{"repo": repo},
			Secrets:   map[string]sandboxer.Secret{"token": sandboxer.NewSecret([]byte("kit-secret"))},
			Consumer:  sandboxer.Consumer{Project: "kit", ActorType: sandboxer.ActorAutomation, Actor: "go-test"},
			CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour),
		},
		Leftovers: func(_ context.Context, id string) ([]string, error) { return r.leftovers(id), nil },
		Invalid:   invalidRequests(t, host.Name, repo),
		Secrets:   []string{repo},
		Dial:      &extensiontest.Target{Service: "web", Port: 8080},
	}
	if server != nil {
		harness.Disconnect = func(context.Context) (func() error, error) {
			server.Stop()
			return func() error { server.Restart(); return nil }, nil
		}
	}
	extensiontest.Run(t, harness)
}

func conformanceProfile() sandboxer.Profile {
	return sandboxer.Profile{
		ID: "profile.kit", Extension: compose.ID, Isolation: sandboxer.IsolationContainer,
		Network: sandboxer.Network{Egress: sandboxer.EgressDeny}, Workspace: sandboxer.Workspace{Mode: sandboxer.WorkspaceUpload}, Setup: sandboxer.Setup{SecretRefs: []string{"token"}},
		TTL: sandboxer.Duration(time.Hour), MaxTTL: sandboxer.Duration(time.Hour),
		Bounds: sandboxer.Bounds{Provision: sandboxer.DefaultProvisionBound, Ready: sandboxer.DefaultReadyBound, Teardown: sandboxer.DefaultTeardownBound},
	}
}

// invalidRequests can never be served.
func invalidRequests(t *testing.T, host, repo string) []sandboxer.ProvisionRequest {
	base := sandboxer.ProvisionRequest{Host: host, Profile: conformanceProfile(), Inputs: map[string]string{"repo": repo}, ExpiresAt: time.Now().Add(time.Hour)}
	base.Secrets = map[string]sandboxer.Secret{"token": sandboxer.NewSecret([]byte("kit-secret"))}
	vm, hostAccess, secrets := base, base, base
	vm.Profile.Isolation = sandboxer.IsolationVM
	hostAccess.Profile.Network.HostAccess = true // with egress deny
	secrets.Profile.Setup.SecretRefs = []string{"TOKEN"}
	privileged := base
	privileged.Inputs = map[string]string{"repo": repotest.New(t, map[string]string{"compose.yaml": "services: {web: {build: ., privileged: true}}\n"})}
	return []sandboxer.ProvisionRequest{vm, hostAccess, secrets, privileged}
}
