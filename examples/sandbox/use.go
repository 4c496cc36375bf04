package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/spf13/cobra"
)

func (a *app) useCommands() []*cobra.Command {
	cmds := []*cobra.Command{a.activateCommand(), a.deactivateCommand(), a.forwardCommand(), a.logsCommand()}
	for _, c := range cmds {
		c.GroupID = "use"
	}
	return cmds
}

func (a *app) activateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "activate ID", Short: "Record that work in a sandbox has begun", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeID(),
		Example: "  sandbox activate k3jx",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSandbox(cmd.Context(), args[0], func(ctx context.Context, c operations, id string) (*sandboxer.Sandbox, error) {
				return c.Activate(ctx, id)
			})
		},
	}
}

func (a *app) deactivateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "deactivate ID", Short: "Record that work in a sandbox has ended", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeID(),
		Example: "  sandbox deactivate k3jx",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSandbox(cmd.Context(), args[0], func(ctx context.Context, c operations, id string) (*sandboxer.Sandbox, error) {
				return c.Deactivate(ctx, id)
			})
		},
	}
}

func (a *app) forwardCommand() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use: "forward ID SERVICE:PORT", Short: "Make a service's port reachable on this machine", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeService(servicePorts),
		Long:    "Listen on this machine and carry every connection to a port of a service, until\ninterrupted. Nothing is published on the host. The address is the result.",
		Example: "  sandbox forward k3jx api:8080\n  sandbox forward k3jx db:5432 --listen 127.0.0.1:15432",
		RunE: func(cmd *cobra.Command, args []string) error {
			service, number, _ := strings.Cut(args[1], ":")
			port, err := strconv.Atoi(number)
			if err != nil || service == "" {
				return usageError{fmt.Errorf("%q is not of the form SERVICE:PORT", args[1])}
			}
			if _, err := a.open(cmd.Context()); err != nil {
				return err
			}
			id, err := a.resolve(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			// a first connection shows at once whether the service can be reached
			conn, err := a.client.Dial(cmd.Context(), id, service, port)
			if err != nil {
				return err
			}
			_ = conn.Close()
			f, err := a.client.Forward(cmd.Context(), id, service, port, listen)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, f.Addr())
			if !a.quiet {
				fmt.Fprintf(a.err, "carrying connections to %s port %d until interrupted\n", service, port)
			}
			<-cmd.Context().Done()
			return f.Close()
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "address to listen on")
	return cmd
}

func (a *app) logsCommand() *cobra.Command {
	var opts sandboxer.LogOptions
	cmd := &cobra.Command{
		Use: "logs ID [SERVICE]", Short: "Show what services wrote", Args: cobra.RangeArgs(1, 2), ValidArgsFunction: a.completeService(serviceName),
		Example: "  sandbox logs k3jx\n  sandbox logs k3jx api --tail 20 --follow",
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := a.open(cmd.Context()); err != nil {
				return err
			}
			id, err := a.resolve(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if len(args) == 2 {
				opts.Service = args[1]
			}
			logs, err := a.client.Logs(cmd.Context(), id, opts)
			if err != nil {
				return err
			}
			defer logs.Close()
			_, err = io.Copy(a.out, logs)
			if cmd.Context().Err() != nil {
				return nil
			}
			return err
		},
	}
	cmd.Flags().IntVar(&opts.Tail, "tail", 0, "only the last lines of each container")
	cmd.Flags().BoolVarP(&opts.Follow, "follow", "f", false, "keep reading")
	cmd.Flags().BoolVarP(&opts.Timestamps, "timestamps", "t", false, "with the time of each line")
	return cmd
}
