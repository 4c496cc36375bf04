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
	"os/user"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/profiles"
	"github.com/sand-boxer/sandboxer/sqlstore"
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
	consumer              sandboxer.Consumer
	actorType             string
	client                *sandboxer.Client
}

func (a *app) globalFlags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&a.hosts, "hosts", os.Getenv("SANDBOXER_HOSTS"), "hosts file, or an address such as ssh://user@host:22 (env SANDBOXER_HOSTS; default the file hosts.yaml in the configuration directory, else local:)")
	f.StringVar(&a.db, "db", os.Getenv("SANDBOXER_DB"), "database of records (env SANDBOXER_DB; default in $XDG_STATE_HOME/sandboxer)")
	f.StringVar(&a.profileDir, "profiles", os.Getenv("SANDBOXER_PROFILES"), "directory of profiles; they replace embedded ones of the same id (env SANDBOXER_PROFILES)")
	f.BoolVar(&a.json, "json", false, "print one JSON document that validates against the published schema")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "print ids only, no progress")
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

// open makes the client, once.
func (a *app) open(ctx context.Context) (*sandboxer.Client, error) {
	if a.client != nil {
		return a.client, nil
	}
	hosts, err := a.loadHosts()
	if err != nil {
		return nil, err
	}
	all, err := a.loadProfiles()
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
	var log *slog.Logger
	if a.verbose {
		log = slog.New(slog.NewTextHandler(a.err, nil))
	}
	a.client, err = sandboxer.New(sandboxer.Config{Extensions: []sandboxer.Extension{ext}, Profiles: all, Store: store, Logger: log})
	if err != nil {
		return nil, errors.Join(err, ext.Close(), store.Close())
	}
	return a.client, nil
}

func (a *app) close() error {
	if a.client == nil {
		return nil
	}
	return a.client.Close()
}

func (a *app) loadHosts() ([]compose.HostConfig, error) {
	if strings.HasPrefix(a.hosts, "ssh://") || strings.HasPrefix(a.hosts, "local:") {
		h, err := compose.ParseHost(a.hosts)
		return []compose.HostConfig{h}, err
	}
	path := a.hosts
	if path == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return nil, nil
		}
		path = filepath.Join(dir, "sandboxer", "hosts.yaml")
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && a.hosts == "" {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("hosts file: %w: %w", sandboxer.ErrNotFound, err)
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
	c, err := a.open(ctx)
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
