package compose_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

// TestLinkCut: whatever the moment at which the link to the host breaks, the
// create ends as if it had not.
func TestLinkCut(t *testing.T) {
	t.Parallel()
	hosttest.Require(t)
	server := sshtest.Start(t, sshtest.Options{})
	proxy := sshtest.NewProxy(t, server.Addr)
	r := newRig(t, sshHost(t, server, proxy.Addr))
	repo := repotest.New(t, map[string]string{"compose.yaml": `services: {web: {build: ., command: [serve, "8080", whole]}}`})
	repotest.Write(t, repo+"/ballast", strings.Repeat("incompressible? no, but large. ", 200_000), 0o644)
	cuts := []struct {
		name string
		cut  func()
	}{
		{"during upload", func() { proxy.CutAfter(sshtest.ToServer, 60_000) }},
		{"late in upload", func() { proxy.CutAfter(sshtest.ToServer, 600_000) }},
		{"after half a second", func() { time.AfterFunc(500*time.Millisecond, proxy.Reset) }},
		{"after one second", func() { time.AfterFunc(time.Second, proxy.Cut) }},
		{"after two seconds", func() { time.AfterFunc(2*time.Second, proxy.Reset) }},
		{"after three seconds", func() { time.AfterFunc(3*time.Second, proxy.Cut) }},
	}
	for _, tt := range cuts {
		t.Run(tt.name, func(t *testing.T) {
			opened := proxy.Opened()
			tt.cut()
			s := r.create(t, request(repo))
			if got := get(t, r.Client, s.ID, "web", 8080, "/"); got != "whole" {
				t.Errorf("the service answers %q", got)
			}
			r.destroy(t, s.ID)
			r.assertRootEmpty(t)
			t.Logf("%d connections to the host", proxy.Opened()-opened)
		})
	}
}
