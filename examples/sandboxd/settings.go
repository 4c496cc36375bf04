package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/server"
	"github.com/sand-boxer/sandboxer/profiles"
	"github.com/sand-boxer/sandboxer/secrets"
	"github.com/sand-boxer/sandboxer/sqlstore"
	"github.com/sand-boxer/sandboxer/statehub"
)

// settings are the flags. Files and variables are those of the sandbox
// command, so that both work on the same records.
type settings struct {
	errOut                   io.Writer
	addr, tokens, workspaces string
	hosts, db, profileDir    string
	secretsFile, hub         string
	wait, drain              time.Duration
	verbose                  bool

	sink *statehub.Sink // nil without a State Hub
}

func (s *settings) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.addr, "addr", "127.0.0.1:8080", "address to listen on; port 0 is any free one")
	f.StringVar(&s.tokens, "tokens", "", "file of the tokens of those who may come")
	f.StringVar(&s.workspaces, "workspaces", ".", "directory below which working trees lie that requests may name")
	f.DurationVar(&s.wait, "wait", 30*time.Minute, "the longest that a request waits for work")
	f.DurationVar(&s.drain, "drain", 2*time.Minute, "how long work may go on at the end, before it is ended and what it made is removed")
	f.StringVar(&s.hosts, "hosts", os.Getenv("SANDBOXER_HOSTS"), "hosts file, or an address such as ssh://user@host:22 (env SANDBOXER_HOSTS; default the file hosts.yaml in the configuration directory, else local:)")
	f.StringVar(&s.db, "db", os.Getenv("SANDBOXER_DB"), "database of records (env SANDBOXER_DB; default in $XDG_STATE_HOME/sandboxer)")
	f.StringVar(&s.profileDir, "profiles", os.Getenv("SANDBOXER_PROFILES"), "directory of profiles; they replace embedded ones of the same id (env SANDBOXER_PROFILES)")
	f.StringVar(&s.secretsFile, "secrets", os.Getenv("SANDBOXER_SECRETS"), "file that says where secrets come from (env SANDBOXER_SECRETS; default the file secrets.yaml in the configuration directory, else none)")
	f.StringVar(&s.hub, "hub", os.Getenv("SANDBOXER_HUB"), "State Hub file (env SANDBOXER_HUB; default the file hub.yaml in the configuration directory, else none)")
	f.BoolVarP(&s.verbose, "verbose", "v", false, "log every change")
}

// server is the configuration of what answers.
func (s *settings) server() (server.Config, error) {
	level := slog.LevelWarn
	if s.verbose {
		level = slog.LevelInfo
	}
	cfg := server.Config{
		Workspaces: s.workspaces, MaxWait: s.wait, Drain: s.drain, Consumer: self(),
		Logger: slog.New(slog.NewTextHandler(s.errOut, &slog.HandlerOptions{Level: level})),
	}
	if s.tokens == "" {
		return cfg, nil
	}
	text, err := os.ReadFile(s.tokens)
	if err != nil {
		return cfg, usageError{fmt.Errorf("tokens: %w", err)}
	}
	cfg.Tokens, err = server.ParseTokens(s.tokens, text)
	return cfg, err
}

// self is the consumer where nobody says another.
func self() sandboxer.Consumer {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = filepath.Base(strings.ReplaceAll(u.Username, `\`, "/"))
	}
	machine, _ := os.Hostname()
	return sandboxer.Consumer{Project: "local", ActorType: sandboxer.ActorAdmin, Actor: name + "@" + cmp.Or(machine, "localhost")}
}

// mayListen refuses an address that others reach unless tokens are asked for.
func (s *settings) mayListen(tokens bool) error {
	if tokens {
		return nil
	}
	host, _, err := net.SplitHostPort(s.addr)
	if err != nil {
		return usageError{fmt.Errorf("--addr: %w", err)}
	}
	if addr, err := netip.ParseAddr(host); host == "localhost" || err == nil && addr.IsLoopback() {
		return nil
	}
	return usageError{sandboxer.WithHint(fmt.Errorf("--addr %s can be reached by others, and without --tokens everybody may do everything", s.addr),
		"give --tokens, or listen on 127.0.0.1; sandboxd token makes a token")}
}

// library opens what the client works with.
func (s *settings) library(ctx context.Context, log *slog.Logger) (cfg sandboxer.Config, closeAll func() error, err error) {
	var opened []func() error
	closeAll = func() error {
		var problems []error
		for _, f := range opened {
			problems = append(problems, f())
		}
		return errors.Join(problems...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll())
		}
	}()
	hosts, err := s.loadHosts()
	if err != nil {
		return cfg, closeAll, err
	}
	ext, err := compose.New(compose.Config{Hosts: hosts})
	if err != nil {
		return cfg, closeAll, err
	}
	opened = append(opened, ext.Close)
	cfg = sandboxer.Config{Extensions: []sandboxer.Extension{ext}, Logger: log}
	if cfg.Profiles, err = s.loadProfiles(); err != nil {
		return cfg, closeAll, err
	}
	if err := s.loadSecrets(&cfg); err != nil {
		return cfg, closeAll, err
	}
	if err := s.loadHub(&cfg); err != nil {
		return cfg, closeAll, err
	}
	opened = append(opened, s.closeSink)
	path := s.db
	if path == "" {
		if path, err = sqlstore.DefaultPath(); err != nil {
			return cfg, closeAll, err
		}
	}
	store, err := sqlstore.Open(ctx, path)
	if err != nil {
		return cfg, closeAll, err
	}
	opened = append(opened, store.Close)
	cfg.Store = store
	return cfg, closeAll, nil
}

func (s *settings) loadHosts() ([]compose.HostConfig, error) {
	if strings.HasPrefix(s.hosts, "ssh://") || strings.HasPrefix(s.hosts, "local:") {
		h, err := compose.ParseHost(s.hosts)
		return []compose.HostConfig{h}, err
	}
	path, text, err := configFile(s.hosts, "hosts.yaml")
	if err != nil || text == nil {
		return nil, err
	}
	return compose.ParseHosts(path, text)
}

func (s *settings) loadProfiles() ([]sandboxer.Profile, error) {
	if s.profileDir == "" {
		return profiles.Load()
	}
	return profiles.Load(os.DirFS(s.profileDir))
}

func (s *settings) loadSecrets(cfg *sandboxer.Config) error {
	path, text, err := configFile(s.secretsFile, "secrets.yaml")
	if err != nil || text == nil {
		return err
	}
	sources, err := secrets.ParseConfig(path, text)
	if err == nil && len(sources.Secrets) > 0 {
		cfg.Secrets = secrets.Sources(sources.Secrets)
	}
	return err
}

func (s *settings) loadHub(cfg *sandboxer.Config) error {
	path, text, err := configFile(s.hub, "hub.yaml")
	if err != nil || text == nil {
		return err
	}
	hub, err := statehub.ParseConfig(path, text)
	if err != nil {
		return err
	}
	hub.Logger, cfg.Delivery = cfg.Logger, hub.Delivery()
	if s.sink, err = statehub.New(hub); err != nil {
		return err
	}
	cfg.Sink = s.sink
	return nil
}

func (s *settings) closeSink() error {
	if s.sink == nil {
		return nil
	}
	return s.sink.Close()
}

// configFile reads the file given, or of that name in the configuration
// directory, where none is no error.
func configFile(given, name string) (path string, text []byte, err error) {
	if path = given; path == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return "", nil, nil
		}
		path = filepath.Join(dir, "sandboxer", name)
	}
	text, err = os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && given == "" {
		return path, nil, nil
	}
	return path, text, err
}
