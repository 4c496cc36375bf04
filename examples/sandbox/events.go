package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/spf13/cobra"
)

func (a *app) eventCommands() []*cobra.Command {
	cmds := []*cobra.Command{a.eventsCommand(), a.deliverCommand(), a.redeliverCommand(), a.usageCommand()}
	for _, c := range cmds {
		c.GroupID = "events"
	}
	return cmds
}

func (a *app) eventsCommand() *cobra.Command {
	var after int64
	var undelivered bool
	cmd := &cobra.Command{
		Use: "events [ID]", Short: "Show the recorded history", Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeID(),
		Long: "Show the recorded history of one sandbox, or of all. With --json one event a line.\n" +
			"With --undelivered only what the State Hub has not taken, and why; dead letters are\nwhat was given up.",
		Example: "  sandbox events k3jx\n  sandbox events --json | jq -c '[.time,.sandbox_id,.state,.reason]'\n  sandbox events --undelivered",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := a.oneOrAll(cmd.Context(), args)
			if err != nil {
				return err
			}
			if undelivered {
				c, err := a.open(cmd.Context())
				if err != nil {
					return err
				}
				list, err := c.Undelivered(cmd.Context(), id)
				if err != nil {
					return err
				}
				return a.printUndelivered(list)
			}
			c, err := a.operations(cmd.Context())
			if err != nil {
				return err
			}
			events, err := c.Events(cmd.Context(), id, after)
			if err != nil {
				return err
			}
			return a.printEvents(events)
		},
	}
	cmd.Flags().Int64Var(&after, "after", 0, "only events with a greater number")
	cmd.Flags().BoolVar(&undelivered, "undelivered", false, "only what the State Hub has not taken")
	return cmd
}

// oneOrAll is the id that args hold, or none for all sandboxes.
func (a *app) oneOrAll(ctx context.Context, args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	return a.resolve(ctx, args[0])
}

func (a *app) deliverCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use: "deliver", Short: "Offer undelivered events to the State Hub", Args: cobra.NoArgs,
		Long: "Offer undelivered events to the State Hub, those of killed commands too, and say how\n" +
			"many it took. Other commands do so while they run and for a moment at their end; this\none is for a timer, or with --follow for a service.",
		Example: "  sandbox deliver --hub http://127.0.0.1:8070\n  sandbox deliver --follow",
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.noDelivery = true
			c, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			if a.sink == nil {
				return usageError{fmt.Errorf("no State Hub is configured: name one with --hub, see sandbox deliver --help")}
			}
			if follow {
				return c.KeepDelivering(cmd.Context())
			}
			n, err := c.Deliver(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, n)
			return a.sayWhatWaits(cmd.Context(), c)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until interrupted")
	return cmd
}

// sayWhatWaits tells a person that a delivery did not take everything.
func (a *app) sayWhatWaits(ctx context.Context, c *sandboxer.Client) error {
	list, err := c.Undelivered(ctx, "")
	if err != nil || len(list) == 0 || a.quiet {
		return err
	}
	fmt.Fprintf(a.err, "%d events are undelivered: %s; see sandbox events --undelivered\n", len(list), cmp.Or(list[0].Reason, "not offered yet"))
	return nil
}

func (a *app) redeliverCommand() *cobra.Command {
	return &cobra.Command{
		Use: "redeliver [ID]", Short: "Offer dead letters to the State Hub again", Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeID(),
		Long: "Offer the dead letters of one sandbox, or of all, to the State Hub again, and with\n" +
			"them, since order counts, every later event of their sandboxes. Prints the number of\ndead letters.",
		Example: "  sandbox redeliver\n  sandbox redeliver k3jx",
		RunE: func(cmd *cobra.Command, args []string) error {
			a.noDelivery = true
			c, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			id, err := a.oneOrAll(cmd.Context(), args)
			if err != nil {
				return err
			}
			n, err := c.Redeliver(cmd.Context(), id)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, n)
			if a.sink == nil {
				if n > 0 && !a.quiet {
					fmt.Fprintln(a.err, "no State Hub is configured: they wait until a command names one with --hub")
				}
				return nil
			}
			if _, err := c.Deliver(cmd.Context()); err != nil {
				return err
			}
			return a.sayWhatWaits(cmd.Context(), c)
		},
	}
}

func (a *app) printUndelivered(list []sandboxer.Undelivered) error {
	switch {
	case a.json:
		for _, u := range list {
			if err := a.printLine(u); err != nil {
				return err
			}
		}
		return nil
	case a.quiet:
		for _, u := range list {
			fmt.Fprintln(a.out, u.Event.ID)
		}
		return nil
	case len(list) == 0:
		fmt.Fprintln(a.err, "every event is delivered")
		return nil
	}
	return a.table("TIME\tSANDBOX\tNO\tSTATE\tFATE\tREASON", func(w io.Writer) {
		for _, u := range list {
			fate := "due"
			switch {
			case u.Dead:
				fate = "dead letter since " + u.DeadSince.Local().Format(time.DateTime)
			case u.DueAt.After(time.Now()):
				fate = "due " + until(u.DueAt)
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\n", u.Event.Time.Local().Format(time.DateTime), u.Event.SandboxID, u.Event.Seq, u.Event.State, fate, cmp.Or(firstLine(u.Reason), "-"))
		}
	})
}
