package compose

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/host"
)

// secretMemory is what is remembered of a sandbox's secrets: no value.
type secretMemory struct {
	Names    []string `json:"names"` // those that services asked for
	Dir      string   `json:"dir"`   // on the host
	InMemory bool     `json:"in_memory,omitempty"`
}

// lostSecrets explains a sandbox that was given secrets and has none.
const lostSecrets = "its secrets are gone, as when the host was restarted: what stopped cannot start again; recreate it"

// complete refuses a request that lacks a secret which its profile promises.
func complete(req sandboxer.ProvisionRequest) error {
	var missing []string
	for _, name := range req.Profile.Setup.SecretRefs {
		if len(req.Secrets[name].Reveal()) == 0 {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return &sandboxer.FieldError{Field: "setup.secret_refs", Reason: fmt.Sprintf("names %q, of which no value was given", missing)}
}

// secretMemory is nil where no service asks for a secret.
func (p *provisioning) secretMemory(r *host.Reserved) *secretMemory {
	if len(p.draft.plan.SecretFiles) == 0 {
		return nil
	}
	m := &secretMemory{Dir: r.Secrets, InMemory: r.InMemory}
	for _, f := range p.draft.plan.SecretFiles {
		m.Names = append(m.Names, f.Secret)
	}
	slices.Sort(m.Names)
	m.Names = slices.Compact(m.Names)
	return m
}

// placeSecrets brings the values to the host. Only root can give a file to the
// user of a service, and only where the engine counts users as the host does;
// elsewhere all of a container may read it. Other accounts of the host cannot
// reach it: the directory is closed to them.
func (p *provisioning) placeSecrets(ctx context.Context, r *host.Reserved) error {
	if len(p.draft.plan.SecretFiles) == 0 {
		return nil
	}
	p.stage(ctx, "secrets", fmt.Sprintf("bringing %d", len(p.draft.plan.SecretFiles)))
	about, err := p.Probe(ctx)
	if err != nil {
		return err
	}
	var files []host.SecretFile
	for _, f := range p.draft.plan.SecretFiles {
		out := host.SecretFile{Name: f.Name, UID: f.UID, GID: f.GID, Mode: f.Mode, Value: p.req.Secrets[f.Secret]}
		if about.UID != 0 || about.Rootless || about.Remapped {
			out.UID, out.GID, out.Mode = 0, 0, 0o444
		}
		files = append(files, out)
	}
	return p.PlaceSecrets(ctx, r, files)
}

// control says where the sandbox's secrets lie.
func (m *secretMemory) control() []sandboxer.Control {
	if m == nil {
		return nil
	}
	c := sandboxer.Control{Name: "secrets.storage", Level: sandboxer.Enforced, Detail: "in memory on the host, gone when it restarts: " + strings.Join(m.Names, ", ")}
	if !m.InMemory {
		c.Level, c.Detail = sandboxer.Advisory, "on the host's disk, which offers no tmpfs at /dev/shm: "+strings.Join(m.Names, ", ")
	}
	return []sandboxer.Control{c}
}
