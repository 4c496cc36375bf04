// Command harness is in small what an agent harness such as glas-harness does
// with sand-boxer: it gets an environment, runs a command in one of its
// services over an engine connection of its own, keeps the environment alive
// for as long as that takes, and gives it back.
//
//	harness -repo DIR -service NAME COMMAND [ARGUMENT...]
//
// It ends with the exit code of the command, and with 125 where it could not
// run it.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/profiles"
	"github.com/sand-boxer/sandboxer/sqlstore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// notRun is the exit code for what is not the command's own.
const notRun = 125

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	flags := flag.NewFlagSet("harness", flag.ContinueOnError)
	flags.SetOutput(errOut)
	repo := flags.String("repo", ".", "working tree to bring up")
	service := flags.String("service", "", "service to run the command in")
	hosts := flags.String("hosts", "", "hosts.yaml; this machine if empty")
	db := flags.String("db", "", "database of records; the one of the sandbox command if empty")
	ttl := flags.Duration("ttl", 10*time.Minute, "how long the sandbox outlives a harness that died")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return notRun
	}
	client, err := open(ctx, *hosts, *db)
	if err == nil {
		h := &harness{Client: client, ttl: *ttl, out: out, errOut: errOut}
		err = errors.Join(h.work(ctx, *repo, *service, flags.Args()), client.Close())
	}
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.Exited() {
		return ended.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(errOut, "harness:", err)
		if hint := sandboxer.Hint(err); hint != "" {
			fmt.Fprintln(errOut, " ", hint)
		}
		return notRun
	}
	return 0
}

func open(ctx context.Context, hostsFile, db string) (*sandboxer.Client, error) {
	var hosts []compose.HostConfig
	if hostsFile != "" {
		text, err := os.ReadFile(hostsFile)
		if err != nil {
			return nil, err
		}
		if hosts, err = compose.ParseHosts(hostsFile, text); err != nil {
			return nil, err
		}
	}
	ext, err := compose.New(compose.Config{Hosts: hosts})
	if err != nil {
		return nil, err
	}
	known, err := profiles.Load()
	if err != nil {
		return nil, err
	}
	shared, err := sqlstore.DefaultPath()
	if err != nil && db == "" {
		return nil, err
	}
	store, err := sqlstore.Open(ctx, cmp.Or(db, shared))
	if err != nil {
		return nil, err
	}
	return sandboxer.New(sandboxer.Config{Extensions: []sandboxer.Extension{ext}, Profiles: known, Store: store})
}
