package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
	config "github.com/sand-boxer/sandboxer/examples/sandbox/settings"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/server"
	"github.com/sand-boxer/sandboxer/sqlstore"
	"github.com/sand-boxer/sandboxer/statehub"
)

// settings are the flags, beside those of the sandbox command.
type settings struct {
	config.Settings
	errOut                   io.Writer
	addr, tokens, workspaces string
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
	s.Flags(f)
	f.BoolVarP(&s.verbose, "verbose", "v", false, "log every change")
}

// server is the configuration of what answers.
func (s *settings) server() (server.Config, error) {
	level := slog.LevelWarn
	if s.verbose {
		level = slog.LevelInfo
	}
	cfg := server.Config{
		Workspaces: s.workspaces, MaxWait: s.wait, Drain: s.drain,
		Consumer: sandboxer.Consumer{Project: "local", ActorType: sandboxer.ActorAdmin, Actor: config.Actor()}, // where nobody says another
		Logger:   slog.New(slog.NewTextHandler(s.errOut, &slog.HandlerOptions{Level: level})),
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
	hosts, err := s.LoadHosts()
	if err != nil {
		return cfg, closeAll, err
	}
	ext, err := compose.New(compose.Config{Hosts: hosts})
	if err != nil {
		return cfg, closeAll, err
	}
	opened = append(opened, ext.Close)
	cfg = sandboxer.Config{Extensions: []sandboxer.Extension{ext}, Logger: log}
	if cfg.Profiles, err = s.LoadProfiles(); err != nil {
		return cfg, closeAll, err
	}
	sources, err := s.LoadSecrets()
	if err != nil {
		return cfg, closeAll, err
	}
	if len(sources) > 0 {
		cfg.Secrets = sources
	}
	if err := s.useHub(&cfg); err != nil {
		return cfg, closeAll, err
	}
	opened = append(opened, s.closeSink)
	path, err := s.Database()
	if err != nil {
		return cfg, closeAll, err
	}
	store, err := sqlstore.Open(ctx, path)
	if err != nil {
		return cfg, closeAll, err
	}
	opened = append(opened, store.Close)
	cfg.Store = store
	return cfg, closeAll, nil
}

// useHub has events delivered where a hub is configured.
func (s *settings) useHub(cfg *sandboxer.Config) error {
	hub, err := s.LoadHub()
	if err != nil || hub.URL == "" {
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
