package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/profiles"
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
	hosts, db, profileDir string
	json, quiet, verbose  bool
	output                string
	live                  bool // the output is a terminal, whatever stands before it
	server, tokenFile     string
	consumer              sandboxer.Consumer
	actorType             string
	hub                   string
	secretsFile           string
	secretFlags           []string
	client                *sandboxer.Client
	sink                  *statehub.Sink // nil without a State Hub
	noDelivery            bool           // the command delivers by itself
	stopDelivery          func()
}

func (a *app) globalFlags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&a.hosts, "hosts", os.Getenv("SANDBOXER_HOSTS"), "hosts file, or an address such as ssh://user@host:22 (env SANDBOXER_HOSTS; default the file hosts.yaml in the configuration directory, else local:)")
	f.StringVar(&a.db, "db", os.Getenv("SANDBOXER_DB"), "database of records (env SANDBOXER_DB; default in $XDG_STATE_HOME/sandboxer)")
	f.StringVar(&a.hub, "hub", os.Getenv("SANDBOXER_HUB"), "State Hub that events go to: a hub file, or an address such as http://127.0.0.1:8070 (env SANDBOXER_HUB; default the file hub.yaml in the configuration directory, else none; the token of an address is in the environment variable SANDBOXER_HUB_TOKEN)")
	f.StringVar(&a.profileDir, "profiles", os.Getenv("SANDBOXER_PROFILES"), "directory of profiles; they replace embedded ones of the same id (env SANDBOXER_PROFILES)")
	f.StringVar(&a.secretsFile, "secrets", os.Getenv("SANDBOXER_SECRETS"), "file that says where secrets come from (env SANDBOXER_SECRETS; default the file secrets.yaml in the configuration directory, else none)")
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
	f.StringVar(&a.consumer.Actor, "actor", cmp.Or(os.Getenv("SANDBOXER_ACTOR"), userAtHost()), "who it is for (env SANDBOXER_ACTOR)")
	f.StringVar(&a.consumer.Run, "run", os.Getenv("SANDBOXER_RUN"), "run it belongs to (env SANDBOXER_RUN)")
}

func userAtHost() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = filepath.Base(strings.ReplaceAll(u.Username, `\`, "/"))
	}
	machine, _ := os.Hostname()
	return name + "@" + cmp.Or(machine, "localhost")
}

// open makes the client, once. With --server there is none.
func (a *app) open(ctx context.Context) (*sandboxer.Client, error) {
	if err := a.noServer(); err != nil || a.client != nil {
		return a.client, err
	}
	hosts, err := a.loadHosts()
	if err != nil {
		return nil, err
	}
	all, err := a.loadProfiles()
	if err != nil {
		return nil, err
	}
	hub, err := a.loadHub()
	if err != nil {
		return nil, err
	}
	sources, err := a.loadSecrets()
	if err != nil {
		return nil, err
	}
	path := a.db
	if path == "" {
		if path, err = sqlstore.DefaultPath(); err != nil {
			return nil, err
		}
	}
	store, err := sqlstore.Open(ctx, path)
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
		cfg.Sink = a.sink
	}
	if a.client, err = sandboxer.New(cfg); err != nil {
		return nil, errors.Join(err, ext.Close(), store.Close())
	}
	a.startDelivery()
	return a.client, nil
}

// startDelivery lets events go to the hub while the command works.
func (a *app) startDelivery() {
	a.stopDelivery = func() {}
	if a.sink == nil || a.noDelivery {
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

// hubToken is where the token of a hub is that is given by its address alone.
const hubToken = "SANDBOXER_HUB_TOKEN"

// loadHub is a configuration without an address where no hub is configured.
func (a *app) loadHub() (statehub.Config, error) {
	if strings.Contains(a.hub, "://") {
		cfg := statehub.Config{URL: a.hub}
		if os.Getenv(hubToken) != "" {
			cfg.TokenEnv = hubToken
		}
		return cfg, cfg.Validate()
	}
	path, data, err := configFile(a.hub, "hub.yaml")
	if err != nil || data == nil {
		return statehub.Config{}, err
	}
	return statehub.ParseConfig(path, data)
}

// loadSecrets reads where secrets come from, and no secret.
func (a *app) loadSecrets() (secrets.Sources, error) {
	all := secrets.Sources{}
	path, data, err := configFile(a.secretsFile, "secrets.yaml")
	if err != nil {
		return nil, err
	}
	if data != nil {
		cfg, err := secrets.ParseConfig(path, data)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, cfg.Secrets)
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

// configFile reads the file given, or of that name in the configuration
// directory, where none is no error.
func configFile(given, name string) (path string, data []byte, err error) {
	if path = given; path == "" {
		dir, err := configDir()
		if err != nil {
			return "", nil, nil
		}
		path = filepath.Join(dir, name)
	}
	data, err = os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && given == "" {
		return path, nil, nil
	}
	if err != nil {
		return path, nil, fmt.Errorf("configuration: %w: %w", sandboxer.ErrNotFound, err)
	}
	return path, data, nil
}

func (a *app) loadHosts() ([]compose.HostConfig, error) {
	if strings.HasPrefix(a.hosts, "ssh://") || strings.HasPrefix(a.hosts, "local:") {
		h, err := compose.ParseHost(a.hosts)
		return []compose.HostConfig{h}, err
	}
	path, data, err := configFile(a.hosts, "hosts.yaml")
	if err != nil || data == nil {
		return nil, err
	}
	return compose.ParseHosts(path, data)
}

// loadProfiles lets the caller's own stand in for embedded ones of the same id.
func (a *app) loadProfiles() ([]sandboxer.Profile, error) {
	if a.profileDir == "" {
		return profiles.Load()
	}
	if _, err := os.Stat(a.profileDir); err != nil {
		return nil, fmt.Errorf("profiles: %w: %w", sandboxer.ErrNotFound, err)
	}
	return profiles.Load(os.DirFS(a.profileDir))
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
