// Command sandbox establishes compose environments on machines you own and
// takes them away again. It is the library's example, held to product quality:
// everything it does is one call of package sandboxer.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/remote"
	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// the second signal ends the program: cleanup that is cut short is finished by reconcile
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}))
}

// Exit codes, the same for every command; api.Class says which errors have which.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
	exitRefused  = 4
	exitNoHost   = 5
	exitConflict = 6
)

func run(ctx context.Context, args []string, io streams) int {
	a := &app{streams: io}
	cmd := a.command()
	cmd.SetArgs(args)
	cmd.SetIn(io.in)
	cmd.SetOut(io.out)
	cmd.SetErr(io.err)
	err := cmd.ExecuteContext(ctx)
	if closeErr := a.close(); err == nil {
		err = closeErr
	}
	if err != nil {
		a.explain(err)
	}
	return exitCode(err)
}

// usageError marks what the caller typed wrong.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func exitCode(err error) int {
	var usage usageError
	var served *remote.Error
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &served):
		return served.Class.Exit()
	case errors.As(err, &usage):
		return exitUsage
	}
	return api.ClassOf(err).Exit()
}

const long = `sandbox establishes environments from compose files on machines you own, and
takes them away again, provably.

With no configuration it uses this machine, keeps its records in
$XDG_STATE_HOME/sandboxer and offers the embedded profiles.

Results go to standard output, progress and messages to standard error.
Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused by admission or
policy, 5 no route or host unavailable, 6 conflict.`

const examples = `  sandbox create --profile profile.compose-e2e --input repo=/path/to/repo
  sandbox list
  sandbox get ID
  sandbox forward ID api:8080
  sandbox recreate ID
  sandbox destroy ID`

func (a *app) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "sandbox", Short: "Establish environments on machines you own", Long: long, Example: examples,
		SilenceErrors: true, SilenceUsage: true, Version: version(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{unknownCommand(cmd, args[0])}
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w, see %s --help", err, cmd.CommandPath())}
	})
	a.globalFlags(cmd)
	a.outputFlags(cmd)
	cmd.AddGroup(&cobra.Group{ID: "life", Title: "A sandbox's life:"}, &cobra.Group{ID: "use", Title: "Using one:"},
		&cobra.Group{ID: "events", Title: "What happened:"}, &cobra.Group{ID: "care", Title: "Caring for all:"}, &cobra.Group{ID: "setup", Title: "Setting up:"})
	cmd.AddCommand(a.lifeCommands()...)
	cmd.AddCommand(a.useCommands()...)
	cmd.AddCommand(a.eventCommands()...)
	cmd.AddCommand(a.careCommands()...)
	cmd.AddCommand(a.setupCommands()...)
	cmd.AddCommand(a.referenceCommand())
	a.completeFlags(cmd)
	for _, sub := range cmd.Commands() {
		if args := sub.Args; args != nil {
			sub.Args = func(cmd *cobra.Command, given []string) error {
				if err := args(cmd, given); err != nil {
					return usageError{fmt.Errorf("%w; usage: %s", err, cmd.UseLine())}
				}
				return nil
			}
		}
	}
	return cmd
}

func unknownCommand(cmd *cobra.Command, typed string) error {
	err := fmt.Errorf("unknown command %q, see sandbox --help", typed)
	cmd.SuggestionsMinimumDistance = 2 // letters that differ
	if near := cmd.SuggestionsFor(typed); len(near) > 0 {
		return sandboxer.WithHint(err, "did you mean %s?", strings.Join(near, " or "))
	}
	return err
}
