package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/examples/sandbox/settings"
	"github.com/sand-boxer/sandboxer/secrets"
	"github.com/sand-boxer/sandboxer/sqlstore"
	"github.com/sand-boxer/sandboxer/statehub"
	"github.com/spf13/cobra"
)

type streams struct {
	in       io.Reader
	out, err io.Writer
}

// An app is one run of the program.
type app struct {
	streams
	settings.Settings
	json, quiet, verbose bool
	output               string
	live                 bool // the output is a terminal, whatever stands before it
	server, tokenFile    string
	consumer             sandboxer.Consumer
	actorType            string
	secretFlags          []string
	client               *sandboxer.Client
	sink                 *statehub.Sink // nil without a State Hub
	noDelivery           bool           // the command delivers by itself
	looking              bool           // the command leaves records and events as they are
	stopDelivery         func()
}

func (a *app) globalFlags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	a.Flags(f)
	f.StringArrayVar(&a.secretFlags, "secret", nil, "where one secret comes from, as NAME=env:VARIABLE or NAME=file:/path, repeatable; it wins over the file, and values are never given here")
	f.StringVar(&a.server, "server", os.Getenv("SANDBOXER_SERVER"), "work through the sandboxd at this address, which has hosts, records and profiles of its own (env SANDBOXER_SERVER)")
	f.StringVar(&a.tokenFile, "token-file", os.Getenv("SANDBOXER_TOKEN_FILE"), "file that holds the token for --server (env SANDBOXER_TOKEN_FILE; or the token itself in env SANDBOXER_TOKEN)")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "log every change to standard error")
}

// consumerFlags say on whose account something is created.
func (a *app) consumerFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.consumer.Project, "project", cmp.Or(os.Getenv("SANDBOXER_PROJECT"), "local"), "calling project (env SANDBOXER_PROJECT)")
	f.StringVar(&a.actorType, "actor-type", cmp.Or(os.Getenv("SANDBOXER_ACTOR_TYPE"), string(sandboxer.ActorAdmin)), "adm, agt or atm (env SANDBOXER_ACTOR_TYPE)")
	f.StringVar(&a.consumer.Actor, "actor", cmp.Or(os.Getenv("SANDBOXER_ACTOR"), settings.Actor()), "who it is for (env SANDBOXER_ACTOR)")
	f.StringVar(&a.consumer.Run, "run", os.Getenv("SANDBOXER_RUN"), "run it belongs to (env SANDBOXER_RUN)")
}

// open makes the client, once. With --server there is none.
func (a *app) open(ctx context.Context) (*sandboxer.Client, error) {
	if err := a.noServer(); err != nil || a.client != nil {
		return a.client, err
	}
	hosts, err := a.LoadHosts()
	if err != nil {
		return nil, err
	}
	all, err := a.LoadProfiles()
	if err != nil {
		return nil, err
	}
	hub, err := a.LoadHub()
	if err != nil {
		return nil, err
	}
	sources, err := a.loadSecrets()
	if err != nil {
		return nil, err
	}
	path, err := a.Database()
	if err != nil {
		return nil, err
	}
	store, err := a.openStore(ctx, path)
	if err != nil {
		return nil, err
	}
	ext, err := compose.New(compose.Config{Hosts: hosts})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	cfg := sandboxer.Config{Extensions: []sandboxer.Extension{ext}, Profiles: all, Store: store, Delivery: hub.Delivery()}
	if len(sources) > 0 {
		cfg.Secrets = sources
	}
	if a.verbose {
		cfg.Logger = slog.New(slog.NewTextHandler(a.err, nil))
	}
	if hub.URL != "" {
		hub.Logger = cfg.Logger
		if a.sink, err = statehub.New(hub); err != nil {
			return nil, errors.Join(err, ext.Close(), store.Close())
		}
		if !a.looking {
			cfg.Sink = a.sink
		}
	}
	if a.client, err = sandboxer.New(cfg); err != nil {
		return nil, errors.Join(err, ext.Close(), store.Close())
	}
	a.startDelivery()
	return a.client, nil
}

// A store is one that has to be closed, if it is one of files.
type store interface {
	sandboxer.Store
	io.Closer
}

// openStore makes the database where there is none, unless the command only looks.
func (a *app) openStore(ctx context.Context, path string) (store, error) {
	if _, err := os.Stat(path); a.looking && errors.Is(err, fs.ErrNotExist) {
		return nothing{sandboxer.NewMemoryStore()}, nil
	}
	return sqlstore.Open(ctx, path)
}

// nothing is recorded yet.
type nothing struct{ *sandboxer.MemoryStore }

func (nothing) Close() error { return nil }

// startDelivery lets events go to the hub while the command works.
func (a *app) startDelivery() {
	a.stopDelivery = func() {}
	if a.sink == nil || a.noDelivery || a.looking {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = a.client.KeepDelivering(ctx) // nil, when ctx ends
	}()
	a.stopDelivery = func() { cancel(); <-ended }
}

func (a *app) close() error {
	if a.client == nil {
		return nil
	}
	if a.sink == nil {
		return a.client.Close()
	}
	a.stopDelivery()
	return errors.Join(a.client.Close(), a.sink.Close())
}

// loadSecrets adds the flags to what is configured.
func (a *app) loadSecrets() (secrets.Sources, error) {
	all, err := a.LoadSecrets()
	if err != nil {
		return nil, err
	}
	for _, flag := range a.secretFlags {
		name, text, ok := strings.Cut(flag, "=")
		if !ok || name == "" {
			return nil, usageError{errors.New("--secret is not of the form NAME=env:VARIABLE or NAME=file:/path")}
		}
		if all[name], err = secrets.ParseSource(text); err != nil {
			return nil, usageError{fmt.Errorf("--secret %s: %w", name, err)}
		}
	}
	return all, nil
}

// minPrefix is how much of an id a person must type at least.
const minPrefix = 4

// resolve turns a unique beginning of an id into the id.
func (a *app) resolve(ctx context.Context, given string) (string, error) {
	c, err := a.operations(ctx)
	if err != nil {
		return "", err
	}
	if sandboxer.ValidID(given) || len(given) < minPrefix {
		return given, nil
	}
	all, err := c.List(ctx, sandboxer.Filter{})
	if err != nil {
		return "", err
	}
	var found []string
	for _, s := range all {
		if strings.HasPrefix(s.ID, given) {
			found = append(found, s.ID)
		}
	}
	switch len(found) {
	case 0:
		return given, nil
	case 1:
		return found[0], nil
	}
	return "", usageError{fmt.Errorf("%s is the beginning of several ids: %s", given, strings.Join(found, ", "))}
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
