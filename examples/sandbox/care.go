package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/schemas"
	"github.com/spf13/cobra"
)

func (a *app) careCommands() []*cobra.Command {
	cmds := []*cobra.Command{a.hostsCommand(), a.reapCommand(), a.reconcileCommand(), a.profilesCommand(), a.extensionsCommand(), a.schemaCommand()}
	for _, c := range cmds {
		c.GroupID = "care"
	}
	return cmds
}

func (a *app) setupCommands() []*cobra.Command {
	cmds := []*cobra.Command{a.initCommand(), a.doctorCommand(), a.completionCommand()}
	for _, c := range cmds {
		c.GroupID = "setup"
	}
	return cmds
}

func (a *app) reapCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reap", Short: "Destroy every sandbox whose time is over", Args: cobra.NoArgs,
		Example: "  sandbox reap\n  */5 * * * * sandbox reap -q   # crontab",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			ended, err := c.Reap(cmd.Context())
			if printErr := a.printList(ended); printErr != nil {
				return printErr
			}
			return err
		},
	}
}

func (a *app) reconcileCommand() *cobra.Command {
	var opts sandboxer.ReconcileOptions
	cmd := &cobra.Command{
		Use: "reconcile", Short: "Make records and hosts agree after a crash", Args: cobra.NoArgs,
		Long:    "Finish what dead processes began, notice what vanished or came back, and find what no\nrecord knows. Safe at any time.",
		Example: "  sandbox reconcile\n  sandbox reconcile --adopt   # the database was lost",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			report, err := c.Reconcile(cmd.Context(), opts)
			if report == nil {
				return err
			}
			if printErr := a.printReport(report); printErr != nil {
				return printErr
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&opts.Adopt, "adopt", false, "record sandboxes that hosts hold and no record knows")
	return cmd
}

func (a *app) profilesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "profiles [ID]", Short: "List profiles, or show one", Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completes(first(a.offerProfiles)),
		Example: "  sandbox profiles\n  sandbox profiles profile.compose-e2e --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := a.profiles(cmd.Context())
			if err != nil {
				return err
			}
			if len(args) == 1 {
				i := slices.IndexFunc(all, func(p sandboxer.Profile) bool { return p.ID == args[0] })
				if i < 0 {
					return fmt.Errorf("profile %q: %w", args[0], sandboxer.ErrNotFound)
				}
				if a.quiet {
					return a.printName(all[i].ID)
				}
				return a.printJSON(all[i])
			}
			return a.printProfiles(all)
		},
	}
}

func (a *app) extensionsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "extensions", Short: "List extensions", Args: cobra.NoArgs, Example: "  sandbox extensions --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			var all []sandboxer.ExtensionInfo
			for _, ext := range c.Registry().All() {
				all = append(all, ext.Info())
			}
			return a.printExtensions(all)
		},
	}
}

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema [NAME]", Short: "Print a JSON Schema", Args: cobra.MaximumNArgs(1), ValidArgs: schemas.Names(),
		Long:    "Print the JSON Schema of a document: " + strings.Join(schemas.Names(), ", ") + ".",
		Example: "  sandbox schema\n  sandbox schema profile > profile.schema.json",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				for _, name := range schemas.Names() {
					fmt.Fprintln(a.out, name)
				}
				return nil
			}
			text, err := schemas.Get(args[0])
			if err != nil {
				return fmt.Errorf("schema %q: %w: known are %q", args[0], sandboxer.ErrNotFound, schemas.Names())
			}
			_, err = a.out.Write(text)
			return err
		},
	}
}
