package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"time"

	"github.com/sand-boxer/sandboxer"
)

type harness struct {
	*sandboxer.Client
	ttl         time.Duration
	out, errOut io.Writer
}

// work is the life of one sandbox. It is removed whatever happens in it; what
// a harness that is killed leaves, the host removes when the lease ends.
func (h *harness) work(ctx context.Context, repo, service string, command []string) (err error) {
	box, err := h.Create(ctx, sandboxer.CreateRequest{
		Profile:  "profile.compose-e2e",
		Inputs:   map[string]string{"repo": repo},
		Consumer: sandboxer.Consumer{Project: "glas-harness", ActorType: sandboxer.ActorAgent, Actor: "example"},
		TTL:      sandboxer.Duration(h.ttl),
	})
	if err != nil {
		return err // what was made is removed already
	}
	defer func() {
		if _, destroyErr := h.Destroy(context.WithoutCancel(ctx), box.ID); destroyErr != nil {
			err = destroyErr // more urgent than how the command ended
		}
	}()
	fmt.Fprintln(h.errOut, "harness: working in sandbox", box.ID, "on", box.Reachability.Address)
	if box, err = h.Activate(ctx, box.ID); err != nil {
		return err
	}
	working, stop := h.keepAlive(ctx, box.ID)
	defer stop()
	return h.execute(working, box.Reachability, service, command)
}

// execute runs a command in the first container of a service. The way there is
// the harness's own: its docker command, its SSH keys, its known hosts.
func (h *harness) execute(ctx context.Context, at *sandboxer.Reachability, service string, command []string) error {
	i := slices.IndexFunc(at.Services, func(s sandboxer.Service) bool { return s.Name == service && len(s.Containers) > 0 })
	if i < 0 {
		return fmt.Errorf("service %q: %w", service, sandboxer.ErrNotFound)
	}
	var args []string
	if at.Address != "local:" {
		args = []string{"--host", at.Address} // ssh://user@host:port is how docker writes it, too
	}
	args = append(args, "exec", at.Services[i].Containers[0])
	cmd := exec.CommandContext(ctx, "docker", append(args, command...)...)
	cmd.Stdout, cmd.Stderr = h.out, h.errOut
	err := cmd.Run()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// keepAlive keeps the end of the sandbox about one ttl away until stop is
// called. The context it returns ends one ttl before the profile's max_ttl
// does, with that as its cause: the work can still be saved then.
func (h *harness) keepAlive(ctx context.Context, id string) (working context.Context, stop func()) {
	working, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(h.ttl / 3)
		defer tick.Stop()
		for working.Err() == nil {
			if _, err := h.ExtendTTL(working, id, h.ttl); err != nil && !sandboxer.Retryable(err) {
				cancel(err)
				return
			}
			select {
			case <-working.Done():
			case <-tick.C:
			}
		}
	}()
	return working, func() { cancel(nil); <-ended }
}
