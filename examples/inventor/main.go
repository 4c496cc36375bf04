// Command inventor is in small what a code generator such as snuggle-inventor
// does with sand-boxer: it gets an environment for what it generated, with its
// own setup metadata in the record, and with secrets of which the record has
// the names. It then sees for itself that no value is in what is recorded.
//
//	inventor -repo DIR -meta template=go-service -secret token=env:REGISTRY_TOKEN
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/profiles"
	"github.com/sand-boxer/sandboxer/secrets"
	"github.com/sand-boxer/sandboxer/sqlstore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], show, os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "inventor:", err)
		if hint := sandboxer.Hint(err); hint != "" {
			fmt.Fprintln(os.Stderr, " ", hint)
		}
		os.Exit(1)
	}
}

// show stands for what a generator does with its environment.
func show(_ context.Context, i *inventor, box *sandboxer.Sandbox) error {
	for _, s := range box.Reachability.Services {
		fmt.Fprintf(i.out, "service %s: %s\n", s.Name, s.State)
	}
	return nil
}

func run(ctx context.Context, args []string, use func(context.Context, *inventor, *sandboxer.Sandbox) error, out, errOut io.Writer) error {
	i := &inventor{metadata: map[string]string{}, sources: secrets.Sources{}, out: out}
	flags := flag.NewFlagSet("inventor", flag.ContinueOnError)
	flags.SetOutput(errOut)
	repo := flags.String("repo", ".", "working tree that was generated")
	hosts := flags.String("hosts", "", "hosts.yaml; this machine if empty")
	db := flags.String("db", "", "database of records; the one of the sandbox command if empty")
	flags.Func("meta", "setup metadata as NAME=VALUE, repeatable", func(text string) error {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return errors.New("write NAME=VALUE")
		}
		i.metadata[name] = value
		return nil
	})
	flags.Func("secret", "where a secret comes from, as NAME=env:VARIABLE or NAME=file:/path, repeatable", func(text string) (err error) {
		name, source, _ := strings.Cut(text, "=")
		i.sources[name], err = secrets.ParseSource(source)
		return err
	})
	err := flags.Parse(args)
	if err == nil {
		err = i.open(ctx, *hosts, *db, errOut)
	}
	if err != nil {
		return err
	}
	return errors.Join(i.invent(ctx, *repo, use), i.Close())
}

func (i *inventor) open(ctx context.Context, hostsFile, db string, log io.Writer) error {
	var hosts []compose.HostConfig
	if hostsFile != "" {
		text, err := os.ReadFile(hostsFile)
		if err != nil {
			return err
		}
		if hosts, err = compose.ParseHosts(hostsFile, text); err != nil {
			return err
		}
	}
	ext, err := compose.New(compose.Config{Hosts: hosts})
	if err != nil {
		return err
	}
	profile, err := i.profile()
	if err != nil {
		return err
	}
	shared, err := sqlstore.DefaultPath()
	if err != nil && db == "" {
		return err
	}
	store, err := sqlstore.Open(ctx, cmp.Or(db, shared))
	if err != nil {
		return err
	}
	i.Client, err = sandboxer.New(sandboxer.Config{
		Extensions: []sandboxer.Extension{ext}, Profiles: []sandboxer.Profile{profile}, Store: store, Secrets: i.sources,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	return err
}

// profile is the reference profile with the inventor's own setup: what it
// wants to find in the record again, and the names of secrets.
func (i *inventor) profile() (sandboxer.Profile, error) {
	known, err := profiles.Load()
	if err != nil {
		return sandboxer.Profile{}, err
	}
	p := known[0]
	p.ID, p.Description = profileID, "what snuggle-inventor generated, brought up"
	p.Setup = sandboxer.Setup{Metadata: i.metadata, SecretRefs: i.names()}
	return p, nil
}
