package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/relay/wire"
)

// VersionLabel marks containers and images of the relay. Its value is the version of the language they speak.
const VersionLabel = "dev.sandboxer.relay"

const (
	// memory, in bytes, is enough for 200 connections at once. Each needs 0.8 MiB, kernel memory included: 200 took
	// 157 MiB on amd64 and Linux 6.18. The most of it is what any Go program takes.
	memory = 256 << 20
	// pids counts threads, of which each connection has four, and the engine some more while it starts one.
	pids = 2048
	// nobody is the user in whose name connections are made; ownership means nothing in an image of one file.
	nobody = "65534:65534"
)

// Spec says what relay a sandbox needs.
type Spec struct {
	ID       string            // the sandbox's
	Name     string            // of the container; empty is "sbx-<ID>-relay"
	Image    string            // the reference of its image; empty is "sandboxer.local/relay:<ID>"
	Labels   map[string]string // of container and image: what a sweep finds them by
	Networks []string          // names or ids, one at least
	Arch     string            // the engine's, as for [Image]
}

func (s Spec) withDefaults() Spec {
	if s.Name == "" {
		s.Name = "sbx-" + s.ID + "-relay"
	}
	if s.Image == "" {
		s.Image = "sandboxer.local/relay:" + s.ID
	}
	s.Labels = maps.Clone(s.Labels)
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	s.Labels[VersionLabel] = wire.Version
	return s
}

// Ensure returns the id of a sandbox's relay, running and on all of the networks, and makes what is missing: the image,
// the container, its start, its place on a network. Many processes may call it at once and get the same container. A
// relay of another version is replaced, which breaks the connections through it.
//
// When it fails it takes back what it made, unless another process uses it already. The failure is not found, as
// [engine.IsNotFound] says, if a network is gone. Steps that make something are finished when the context ends, so that
// their outcome is known: Ensure may outlast its context, by a few tens of milliseconds as a rule and by 20 s on a
// connection that has fallen silent.
func Ensure(ctx context.Context, eng *engine.Client, spec Spec) (string, error) {
	if len(spec.Networks) == 0 {
		return "", errors.New("a relay needs a network to stand on")
	}
	m := maker{eng: eng, spec: spec.withDefaults()}
	const rounds = 12 // each but the last lost a race against another process
	pause := 10 * time.Millisecond
	for round := 1; ; round++ {
		id, err := m.attempt(ctx)
		if err == nil {
			return id, nil
		}
		if round == rounds || !m.raced(ctx, err) {
			m.takeBack(ctx)
			return "", fmt.Errorf("ensure relay %s: %w", m.spec.Name, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, time.Second)
	}
}

// maker makes one relay.
type maker struct {
	eng   *engine.Client
	spec  Spec
	tried bool // to make an image or container
}

// errStale says that a container is on its way out.
var errStale = errors.New("the container is being removed")

// attempt goes the whole way once, from whatever is there.
func (m *maker) attempt(ctx context.Context) (string, error) {
	c, err := m.eng.InspectContainer(ctx, m.spec.Name)
	if engine.IsNotFound(err) {
		if c.ID, err = m.create(ctx); err == nil {
			c, err = m.eng.InspectContainer(ctx, c.ID)
		}
	}
	if err != nil {
		return "", err
	}
	if err := m.accept(ctx, c); err != nil {
		return "", err
	}
	if err := m.connect(ctx, c); err != nil {
		return "", err
	}
	if c.State.Running {
		return c.ID, nil
	}
	ctx, cancel := finishing(ctx)
	defer cancel()
	return c.ID, m.eng.StartContainer(ctx, c.ID)
}

// patience bounds what goes on after a context's end.
const patience = 10 * time.Second

// finishing is a context for a step that, once begun, does not end with the given one.
func finishing(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() != nil {
		return ctx, func() {}
	}
	return context.WithTimeout(context.WithoutCancel(ctx), patience)
}

// accept makes sure that a container is the relay, and removes one that cannot serve.
func (m *maker) accept(ctx context.Context, c engine.ContainerDetails) error {
	for key, value := range m.spec.Labels {
		if key != VersionLabel && c.Labels[key] != value {
			return fmt.Errorf("the container's name is taken: its label %s is %q and not %q", key, c.Labels[key], value)
		}
	}
	version, ours := c.Labels[VersionLabel]
	if !ours {
		return fmt.Errorf("the container's name is taken: it has no label %s", VersionLabel)
	}
	if version == wire.Version && c.State.Status != "dead" && c.State.Status != "removing" {
		return nil
	}
	err := m.eng.RemoveContainer(ctx, c.ID, engine.Removal{Force: true})
	if err == nil || engine.IsNotFound(err) || engine.IsConflict(err) {
		return errStale
	}
	return err
}

// create makes a container and, if there is none, the image for it.
func (m *maker) create(ctx context.Context) (string, error) {
	image, err := m.image(ctx)
	if err != nil {
		return "", err
	}
	return m.createContainer(ctx, engine.ContainerSpec{
		Name:        m.spec.Name,
		Image:       image,
		Cmd:         []string{"hold"},
		User:        nobody,
		Labels:      m.spec.Labels,
		Network:     m.spec.Networks[0],
		ReadOnly:    true,
		CapDrop:     []string{"ALL"},
		SecurityOpt: []string{"no-new-privileges"},
		Sysctls:     map[string]string{"net.ipv4.ip_forward": "0"}, // engines turn it on: no way from one network to another
		DNS:         []string{"127.0.0.1"},                         // it resolves nothing
		Memory:      memory,
		Pids:        pids,
		LogDriver:   "none",
	})
}

func (m *maker) createContainer(ctx context.Context, spec engine.ContainerSpec) (string, error) {
	m.tried = true
	ctx, cancel := finishing(ctx)
	defer cancel()
	return m.eng.CreateContainer(ctx, spec)
}

// image returns the id of the image, which is imported if there is none.
func (m *maker) image(ctx context.Context) (string, error) {
	var labels []string
	for key, value := range m.spec.Labels {
		labels = append(labels, key+"="+value)
	}
	images, err := m.eng.Images(ctx, labels...)
	if err != nil {
		return "", err
	}
	for _, image := range images {
		if slices.Contains(image.Tags, m.spec.Image) {
			return image.ID, nil
		}
	}
	return m.importImage(ctx)
}

func (m *maker) importImage(ctx context.Context) (string, error) {
	archive, err := Image(m.spec.Arch)
	if err != nil {
		return "", err
	}
	changes := []string{
		`ENTRYPOINT ["` + binary + `"]`,
		"ENV GOMAXPROCS=1", // less memory for each connection
	}
	for key, value := range m.spec.Labels {
		change, err := labelInstruction(key, value)
		if err != nil {
			return "", err
		}
		changes = append(changes, change)
	}
	m.tried = true
	ctx, cancel := finishing(ctx)
	defer cancel()
	return m.eng.ImportImage(ctx, m.spec.Image, bytes.NewReader(archive), changes...)
}

// labelInstruction writes a label so that a Dockerfile's reader takes every character for itself.
func labelInstruction(key, value string) (string, error) {
	if strings.ContainsFunc(key+value, unicode.IsControl) {
		return "", fmt.Errorf("label %q=%q: control characters cannot be in a label of an image", key, value)
	}
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`)
	return `LABEL "` + escape.Replace(key) + `"="` + escape.Replace(value) + `"`, nil
}

// connect puts the container on the networks where it is not yet.
func (m *maker) connect(ctx context.Context, c engine.ContainerDetails) error {
	for _, network := range m.spec.Networks {
		if isOn(c, network) {
			continue
		}
		if err := m.connectNetwork(ctx, network, c.ID); err != nil {
			if now, inspectErr := m.eng.InspectContainer(ctx, c.ID); inspectErr == nil && isOn(now, network) {
				continue // another process was quicker
			}
			return err
		}
	}
	return nil
}

func (m *maker) connectNetwork(ctx context.Context, network, container string) error {
	ctx, cancel := finishing(ctx)
	defer cancel()
	return m.eng.ConnectNetwork(ctx, network, container)
}

func isOn(c engine.ContainerDetails, network string) bool {
	for name, endpoint := range c.Networks {
		if name == network || endpoint.NetworkID == network {
			return true
		}
	}
	return c.NetworkMode == network && !c.State.Running // not resolved before the start
}

// raced reports whether another process may have caused the error, so that to try again makes sense.
func (m *maker) raced(ctx context.Context, err error) bool {
	switch {
	case ctx.Err() != nil:
		return false
	case errors.Is(err, errStale), engine.IsConflict(err):
		return true
	case !engine.IsNotFound(err):
		return false
	}
	for _, network := range m.spec.Networks {
		if _, err := m.eng.InspectNetwork(ctx, network); err != nil {
			return false
		}
	}
	return true
}

// takeBack removes what was made, unless it is in use: without force, a running container and its image stay.
func (m *maker) takeBack(ctx context.Context) {
	if !m.tried {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	// What cannot be removed now carries the labels by which a sweep finds it.
	_ = m.eng.RemoveContainer(ctx, m.spec.Name, engine.Removal{})
	_ = m.eng.RemoveImage(ctx, m.spec.Image, false)
}
