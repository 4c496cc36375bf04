package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/secrets"
)

const profileID = "profile.invention"

type inventor struct {
	*sandboxer.Client
	metadata map[string]string
	sources  secrets.Sources
	out      io.Writer
}

// names of secrets are all that a profile, a record or an event has of them.
func (i *inventor) names() []string { return slices.Sorted(maps.Keys(i.sources)) }

// invent lets use work in a sandbox of what was generated.
func (i *inventor) invent(ctx context.Context, repo string, use func(context.Context, *inventor, *sandboxer.Sandbox) error) (err error) {
	box, err := i.Create(ctx, sandboxer.CreateRequest{
		Profile:  profileID,
		Inputs:   map[string]string{"repo": repo},
		Consumer: sandboxer.Consumer{Project: "snuggle-inventor", ActorType: sandboxer.ActorAgent, Actor: "example"},
	})
	if err != nil {
		return err
	}
	defer func() {
		_, destroyErr := i.Destroy(context.WithoutCancel(ctx), box.ID)
		err = errors.Join(err, destroyErr, i.audit(context.WithoutCancel(ctx), box.ID))
	}()
	setup := box.Profile.Setup
	fmt.Fprintf(i.out, "sandbox %s is ready, with metadata %v and the secrets %v\n", box.ID, setup.Metadata, setup.SecretRefs)
	return use(ctx, i, box)
}

// audit looks for the value of every secret in all that is recorded.
func (i *inventor) audit(ctx context.Context, id string) error {
	box, err := i.Get(ctx, id)
	if err != nil {
		return err
	}
	events, err := i.Events(ctx, id, 0)
	if err != nil {
		return err
	}
	recorded, err := json.Marshal(map[string]any{"sandbox": box, "events": events})
	if err != nil {
		return err
	}
	for _, name := range i.names() {
		value, err := i.sources.ResolveSecret(ctx, sandboxer.SecretRequest{Name: name})
		if err != nil {
			return err
		}
		if quoted, _ := json.Marshal(string(value)); bytes.Contains(recorded, quoted[1:len(quoted)-1]) {
			return fmt.Errorf("the value of secret %s is in the record of sandbox %s", name, id)
		}
	}
	fmt.Fprintf(i.out, "record and %d events of sandbox %s hold no value of a secret\n", len(events), id)
	return nil
}
