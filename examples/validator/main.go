// Command validator is in small what a validator such as wise-validator does
// with sand-boxer: it reads the e2e/ directory of a repository, gets the
// environment that it names, polls it until its checks pass or patience runs
// out, says what came of it, and has the environment taken away.
//
//	validator -repo DIR
//
// It prints a report as JSON. Exit codes: 0 the checks passed, 1 the
// repository is at fault, 2 it is not, and nothing is known of the repository.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
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

const (
	exitPassed = iota
	exitFailed
	exitUnknown // also where the environment is not proved absent
)

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	flags := flag.NewFlagSet("validator", flag.ContinueOnError)
	flags.SetOutput(errOut)
	repo := flags.String("repo", ".", "working tree with an e2e/ directory")
	hosts := flags.String("hosts", "", "hosts.yaml; this machine if empty")
	db := flags.String("db", "", "database of records; the one of the sandbox command if empty")
	name := flags.String("run", "", "the run this validation belongs to")
	patience := flags.Duration("patience", 30*time.Second, "how long each check may take to pass")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return exitPassed
	} else if err != nil {
		return exitUnknown
	}
	client, err := open(ctx, *hosts, *db)
	if err != nil {
		fmt.Fprintln(errOut, "validator:", err)
		return exitUnknown
	}
	v := &validator{Client: client, run: *name, patience: *patience}
	report, err := v.validate(ctx, *repo)
	if report.Verdict == "" {
		report.blame(err)
	}
	if err := errors.Join(err, client.Close()); err != nil {
		fmt.Fprintln(errOut, "validator:", err)
	}
	document := json.NewEncoder(out)
	document.SetIndent("", "  ")
	if err := document.Encode(report); err != nil {
		return exitUnknown
	}
	switch {
	case report.Sandbox != "" && report.ProvedAbsent.IsZero():
		return exitUnknown
	case report.Verdict == passed:
		return exitPassed
	case report.Verdict == failed:
		return exitFailed
	}
	return exitUnknown
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
