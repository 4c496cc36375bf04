package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
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

func (a *app) hostsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "hosts", Short: "Ask every host whether it can be used", Args: cobra.NoArgs,
		Long:    "Ask every configured host whether it can be used now, what it has, and if not, what\nto do about it. Exits 5 if none can.",
		Example: "  sandbox hosts\n  sandbox hosts --hosts ssh://me@sandboxer01 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			statuses, err := a.hosts(cmd.Context())
			if err != nil {
				return err
			}
			if err := a.printHosts(statuses); err != nil {
				return err
			}
			if !slices.ContainsFunc(statuses, func(s sandboxer.HostStatus) bool { return s.Available }) {
				return fmt.Errorf("no host can be used: %w", sandboxer.ErrUnavailable)
			}
			return nil
		},
	}
	cmd.AddCommand(
		a.checkHostsCommand(),
		a.hostCommand((*compose.Extension).Harden, &cobra.Command{
			Use: "harden [HOST...]", Short: "Close hosts to sandboxes whose egress is open",
			Long:    "Install static firewall rules on the named hosts, or on all: sandboxes then reach neither\nservices of the host nor metadata services of clouds, also with egress allow. Needs root on\nthe host. Sandboxes that run are covered at once. The rules are gone after a reboot: do it\nagain. \"sandbox hosts check\" shows whether they are there.",
			Example: "  sandbox hosts harden --hosts ssh://root@sandboxer01",
		}),
		a.hostCommand((*compose.Extension).Soften, &cobra.Command{
			Use: "soften [HOST...]", Short: "Remove what harden installed",
			Long:    "Remove the firewall rules that harden installed on the named hosts, or on all.",
			Example: "  sandbox hosts soften --hosts ssh://root@sandboxer01",
		}),
		a.hostCommand((*compose.Extension).Cordon, &cobra.Command{
			Use: "cordon HOST...", Short: "Have hosts take no new sandboxes", Args: cobra.MinimumNArgs(1),
			Long:    "Have the named hosts take no new sandboxes, from whatever client, until they are\nuncordoned. Those they have go on, and may be recreated there.",
			Example: "  sandbox hosts cordon sandboxer01",
		}),
		a.hostCommand((*compose.Extension).Uncordon, &cobra.Command{
			Use: "uncordon HOST...", Short: "Have hosts take new sandboxes again", Args: cobra.MinimumNArgs(1),
			Long:    "Have the named hosts take new sandboxes again.",
			Example: "  sandbox hosts uncordon sandboxer01",
		}))
	return cmd
}

// checkHostsCommand shows what a host keeps from sandboxes, which a list of
// hosts has no room for.
func (a *app) checkHostsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check [HOST...]", Short: "Show what hosts are, and whether they are hardened",
		Long:              "Ask the named hosts, or all, and show everything that is known of each: whether it can be\nused, whether harden has closed it to sandboxes, and its facts. Exits 5 if one of them\ncannot be used.",
		Example:           "  sandbox hosts check sandboxer01",
		ValidArgsFunction: a.completes(a.offerHosts),
		RunE: func(cmd *cobra.Command, names []string) error {
			statuses, err := a.hosts(cmd.Context())
			if err != nil {
				return err
			}
			if statuses, err = hostsNamed(statuses, names); err != nil {
				return err
			}
			if err := a.printHostFacts(statuses); err != nil {
				return err
			}
			if i := slices.IndexFunc(statuses, func(s sandboxer.HostStatus) bool { return !s.Available }); i >= 0 {
				return fmt.Errorf("host %s cannot be used: %w", statuses[i].Host.Name, sandboxer.ErrUnavailable)
			}
			return nil
		},
	}
}

// hostsNamed picks hosts by name; none named is all.
func hostsNamed(all []sandboxer.HostStatus, names []string) ([]sandboxer.HostStatus, error) {
	if len(names) == 0 {
		return all, nil
	}
	var picked []sandboxer.HostStatus
	for _, name := range names {
		i := slices.IndexFunc(all, func(s sandboxer.HostStatus) bool { return s.Host.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("host %s: %w", name, sandboxer.ErrNotFound)
		}
		picked = append(picked, all[i])
	}
	return picked, nil
}

// hostCommand has cmd do something to each of the named hosts, or to all where
// none is named.
func (a *app) hostCommand(do func(*compose.Extension, context.Context, string) error, cmd *cobra.Command) *cobra.Command {
	cmd.ValidArgsFunction = a.completes(a.offerOwnHosts)
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		if err := a.noServer(); err != nil {
			return err
		}
		hosts, err := a.LoadHosts()
		if err != nil {
			return err
		}
		ext, err := compose.New(compose.Config{Hosts: hosts})
		if err != nil {
			return err
		}
		defer ext.Close()
		if len(names) == 0 {
			for _, h := range ext.Info().Hosts {
				names = append(names, h.Name)
			}
		}
		var problems []error
		for _, name := range names {
			if err := do(ext, cmd.Context(), name); err != nil {
				problems = append(problems, sandboxer.WithHint(fmt.Errorf("%s %s: %w", cmd.Name(), name, err), "%s", sandboxer.Hint(err)))
			}
		}
		return errors.Join(problems...)
	}
	return cmd
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
