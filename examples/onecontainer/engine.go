package onecontainer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// docker runs the engine's command line. Its error is that of the engine, in
// the words of [sandboxer.Extension].
func (x *Extension) docker(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	if x.Engine != "" {
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+x.Engine)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	text := strings.TrimSpace(said.String())
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case err == nil:
		return string(out), nil
	case errors.Is(err, exec.ErrNotFound), strings.Contains(text, "Is the docker daemon running?"), strings.Contains(text, "error during connect"):
		return "", fmt.Errorf("the engine cannot be asked: %w: %w: %s", sandboxer.ErrUnavailable, err, text)
	case strings.Contains(text, "No such image"):
		return "", fmt.Errorf("%w: %s", sandboxer.ErrInvalid, text)
	}
	return "", fmt.Errorf("docker %s: %w: %s", args[0], err, text)
}

// isTaken reports whether another process has made the container first.
func isTaken(err error) bool { return strings.Contains(err.Error(), "is already in use by container") }

// record reads the labels of the volume; nil without one, or if the volume is
// one that the engine made for a container.
func (x *Extension) record(ctx context.Context, id string) (*sandboxer.Found, error) {
	all, err := x.records(ctx, id)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

// records reads those of all sandboxes, or of one.
func (x *Extension) records(ctx context.Context, id string) ([]sandboxer.Found, error) {
	filter := "label=" + labelID
	if id != "" {
		filter += "=" + id
	}
	out, err := x.docker(ctx, "volume", "ls", "--filter", filter, "--format", `{{.Label "`+labelFound+`"}}`)
	if err != nil {
		return nil, err
	}
	var all []sandboxer.Found
	for line := range strings.Lines(out) {
		var f sandboxer.Found
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			return nil, fmt.Errorf("the record of a sandbox: %w", err)
		}
		all = append(all, f)
	}
	return all, nil
}

// holdings are what the engine has of one sandbox.
type holdings struct {
	id, container, state, volume string
}

// objects asks for exactly the names that a sandbox has: the engine's own
// filters by name also find names that only begin alike.
func (x *Extension) objects(ctx context.Context, id string) (holdings, error) {
	h := holdings{id: id}
	out, err := x.docker(ctx, "ps", "--all", "--no-trunc", "--filter", "name="+name(id), "--format", "{{.Names}} {{.ID}} {{.State}}")
	if err != nil {
		return h, err
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == name(id) {
			h.container, h.state = f[1], f[2]
		}
	}
	if out, err = x.docker(ctx, "volume", "ls", "--filter", "name="+name(id), "--format", "{{.Name}}"); err != nil {
		return h, err
	}
	for line := range strings.Lines(out) {
		if strings.TrimSpace(line) == name(id) {
			h.volume = name(id)
		}
	}
	return h, nil
}

func (h holdings) resources() []sandboxer.Resource {
	var all []sandboxer.Resource
	if h.container != "" {
		all = append(all, sandboxer.Resource{Kind: "container", ID: h.container, Name: name(h.id)})
	}
	if h.volume != "" {
		all = append(all, sandboxer.Resource{Kind: "volume", ID: h.volume, Name: h.volume})
	}
	return all
}

func (h holdings) services() []sandboxer.Service {
	return []sandboxer.Service{{Name: "main", State: h.state, Containers: []string{name(h.id)}}}
}

// remove removes the container and, the record last, the volume. What another
// teardown was faster with is no error: the next look tells.
func (x *Extension) remove(ctx context.Context, h holdings) error {
	var problems []error
	if h.container != "" {
		_, err := x.docker(ctx, "rm", "--force", h.container)
		problems = append(problems, err)
	}
	if h.volume != "" {
		_, err := x.docker(ctx, "volume", "rm", "--force", h.volume)
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// Inspect implements [sandboxer.Inspector].
func (x *Extension) Inspect(ctx context.Context, h sandboxer.Handle) (sandboxer.Observation, error) {
	o := sandboxer.Observation{Presence: sandboxer.Absent, At: time.Now().UTC()}
	there, err := x.objects(ctx, h.SandboxID)
	switch {
	case err != nil:
		o.Presence, o.Detail = sandboxer.Unknown, err.Error()
	case len(there.resources()) > 0:
		o.Presence, o.Resources, o.Services = sandboxer.Present, there.resources(), there.services()
	}
	return o, nil
}

// List implements [sandboxer.Lister].
func (x *Extension) List(ctx context.Context, _ string) ([]sandboxer.Found, error) {
	return x.records(ctx, "")
}
