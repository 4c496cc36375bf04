package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/remote"
)

// operations are what commands need of the library on this machine, or of a
// server that has it.
type operations interface {
	Create(context.Context, sandboxer.CreateRequest) (*sandboxer.Sandbox, error)
	Plan(context.Context, sandboxer.CreateRequest, sandboxer.PlanOptions) (*sandboxer.Plan, error)
	Get(ctx context.Context, id string) (*sandboxer.Sandbox, error)
	Inspect(ctx context.Context, id string) (*sandboxer.Sandbox, error)
	List(context.Context, sandboxer.Filter) ([]sandboxer.Sandbox, error)
	ExtendTTL(ctx context.Context, id string, d time.Duration) (*sandboxer.Sandbox, error)
	Activate(ctx context.Context, id string) (*sandboxer.Sandbox, error)
	Deactivate(ctx context.Context, id string) (*sandboxer.Sandbox, error)
	Recreate(ctx context.Context, id string) (*sandboxer.Sandbox, error)
	Destroy(ctx context.Context, id string) (*sandboxer.Sandbox, error)
	Events(ctx context.Context, id string, after int64) ([]sandboxer.Event, error)
	Usage(context.Context, sandboxer.MeterBy, sandboxer.Window) ([]sandboxer.Meter, error)
}

// operations are those of the server, if one is named.
func (a *app) operations(ctx context.Context) (operations, error) {
	if a.server == "" {
		return a.open(ctx)
	}
	return a.remote()
}

// remote is the server that is named.
func (a *app) remote() (*remote.Client, error) {
	token, err := a.token()
	if err != nil {
		return nil, err
	}
	return remote.New(a.server, token)
}

// hosts asks the hosts, which are the server's if one is named.
func (a *app) hosts(ctx context.Context) ([]sandboxer.HostStatus, error) {
	if a.server != "" {
		server, err := a.remote()
		if err != nil {
			return nil, err
		}
		return server.Hosts(ctx)
	}
	c, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	return c.Hosts(ctx), nil
}

// profiles are the server's if one is named.
func (a *app) profiles(ctx context.Context) ([]sandboxer.Profile, error) {
	if a.server != "" {
		server, err := a.remote()
		if err != nil {
			return nil, err
		}
		return server.Profiles(ctx)
	}
	c, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	return c.Profiles(), nil
}

func (a *app) token() (string, error) {
	if a.tokenFile == "" {
		return os.Getenv("SANDBOXER_TOKEN"), nil
	}
	text, err := os.ReadFile(a.tokenFile)
	if err != nil {
		return "", usageError{fmt.Errorf("--token-file: %w", err)}
	}
	return strings.TrimSpace(string(text)), nil
}

// noServer refuses a command that needs the hosts or the records themselves.
func (a *app) noServer() error {
	if a.server == "" {
		return nil
	}
	return usageError{sandboxer.WithHint(errors.New("this command does not work through a server"),
		"run it without --server and SANDBOXER_SERVER, where the hosts and records of the sandboxes are configured")}
}
