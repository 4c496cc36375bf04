// Command sandboxd serves the library over HTTP, see docs/sandboxd.md. The
// contract is package api, what answers is package server, and package remote
// is a client.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the program: the next start reconciles
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	cmd := command(out, errOut)
	cmd.SetArgs(args)
	cmd.SetOut(out)
	cmd.SetErr(errOut)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	fmt.Fprintln(errOut, "sandboxd:", err)
	if hint := sandboxer.Hint(err); hint != "" {
		fmt.Fprintln(errOut, " ", hint)
	}
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// usageError marks what the caller typed wrong.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

const long = `sandboxd serves sandboxes over HTTP: what the sandbox command does, for programs and
for people who have no access to the hosts.

  POST   /v1/sandboxes              establish one, and wait until it is ready
  GET    /v1/sandboxes[/ID]         what there is
  DELETE /v1/sandboxes/ID           remove one and prove it absent
  POST   /v1/sandboxes/ID/extend, activate, deactivate, recreate
  GET    /v1/sandboxes/ID/events, /v1/events   history, or a stream of events
  POST   /v1/plan                   what a create would do
  GET    /v1/profiles, /v1/hosts, /v1/usage
  GET    /openapi.json, /healthz, /metrics
  GET    /                          a page that shows all this as it changes

It prints the address it listens on and runs until it is interrupted; work under
way is then finished. Without --tokens it listens on loopback only, and whoever
reaches it there may do everything. Exit codes: 0 done, 1 failed, 2 usage.`

const examples = `  sandboxd --workspaces ~/src
  sandboxd --addr :8443 --tokens /etc/sandboxer/tokens.yaml --workspaces /srv/repos
  sandboxd token --project shop --actor-type agt --actor ci >> /etc/sandboxer/tokens.yaml
  curl -H 'Content-Type: application/json' -d '{"profile":"profile.compose-e2e","inputs":{"repo":"shop"}}' http://127.0.0.1:8080/v1/sandboxes
  sandbox --server http://127.0.0.1:8080 list`

func command(out, errOut io.Writer) *cobra.Command {
	s := settings{errOut: errOut}
	cmd := &cobra.Command{
		Use: "sandboxd", Short: "Serve sandboxes over HTTP", Long: long, Example: examples,
		SilenceErrors: true, SilenceUsage: true, Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), &s, out) },
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w, see %s --help", err, cmd.CommandPath())}
	})
	s.flags(cmd)
	cmd.AddCommand(tokenCommand(out, errOut))
	cmd.CompletionOptions.DisableDefaultCmd = true
	return cmd
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q, see %s --help", args[0], cmd.CommandPath())}
	}
	return nil
}

func serve(ctx context.Context, s *settings, out io.Writer) (err error) {
	cfg, err := s.server()
	if err != nil {
		return err
	}
	if err := s.mayListen(len(cfg.Tokens) > 0); err != nil {
		return err
	}
	library, closeLibrary, err := s.library(ctx, cfg.Logger)
	if err != nil {
		return err
	}
	h, err := server.New(library, cfg)
	if err != nil {
		return errors.Join(err, closeLibrary())
	}
	defer func() { err = errors.Join(err, h.Close(), s.closeSink()) }()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.addr)
	if err != nil {
		return sandboxer.WithHint(err, "another program may use the port: choose one with --addr, port 0 for any")
	}
	if len(cfg.Tokens) == 0 {
		fmt.Fprintln(s.errOut, "no --tokens: listening on loopback only, where everybody may do everything")
	}
	fmt.Fprintf(out, "listening on http://%s/\n", l.Addr())
	return h.Run(ctx, l)
}
