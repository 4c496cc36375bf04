package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
	"github.com/spf13/cobra"
)

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

func (a *app) printHosts(statuses []sandboxer.HostStatus) error {
	switch {
	case a.json:
		return a.printJSON(statuses)
	case a.quiet:
		for _, s := range statuses {
			fmt.Fprintln(a.out, s.Host.Name)
		}
		return nil
	}
	header := "HOST\tADDRESS\tUSABLE\tSANDBOXES\tENGINE\tCOMPOSE\tFREE"
	if a.wide() {
		header += "\tREGION\tISOLATION\tFIREWALL\tCPUS\tKERNEL\tROOT"
	}
	err := a.table(header, func(w io.Writer) {
		for _, s := range statuses {
			usable := "yes"
			switch {
			case !s.Available:
				usable = "no"
			case s.Cordoned:
				usable = "cordoned"
			}
			taken := fmt.Sprint(s.Sandboxes)
			if s.Host.Slots > 0 {
				taken += fmt.Sprintf(" of %d", s.Host.Slots)
			}
			fact := func(name string) string { return cmp.Or(s.Facts[name], "-") }
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s", s.Host.Name, s.Host.Address, usable, taken, fact("engine"), fact("compose"), size(int64(s.FreeDisk)))
			if a.wide() {
				fmt.Fprintf(w, "\t%s\t%s\t%s\t%s\t%s\t%s", cmp.Or(s.Host.Region, "-"), strings.Trim(fmt.Sprint(s.Isolation), "[]"), fact("firewall"), fact("cpus"), fact("kernel"), fact("root"))
			}
			fmt.Fprintln(w)
		}
	})
	for _, s := range statuses {
		if !s.Available {
			fmt.Fprintf(a.err, "%s: %s\n", s.Host.Name, s.Reason)
			if s.Hint != "" {
				fmt.Fprintf(a.err, "  %s\n", s.Hint)
			}
		}
		for _, warning := range s.Warnings {
			fmt.Fprintf(a.err, "%s: warning: %s\n", s.Host.Name, strings.ReplaceAll(warning, "\n", "\n  "))
		}
	}
	return err
}

// printHostFacts shows one host after the other, with all that is known of it.
func (a *app) printHostFacts(statuses []sandboxer.HostStatus) error {
	if a.json || a.quiet {
		return a.printHosts(statuses)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for i, s := range statuses {
		if i > 0 {
			fmt.Fprintln(w)
		}
		field := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
		field("host", "%s at %s", s.Host.Name, s.Host.Address)
		if !s.Available {
			field("usable", "no: %s", s.Reason)
			if s.Hint != "" {
				field("remedy", "%s", s.Hint)
			}
			continue
		}
		field("usable", "%s", map[bool]string{false: "yes", true: "cordoned: it takes no new sandboxes"}[s.Cordoned])
		field("sandboxes", "%d", s.Sandboxes)
		field("isolation", "%s", strings.Trim(fmt.Sprint(s.Isolation), "[]"))
		for _, name := range slices.Sorted(maps.Keys(s.Facts)) {
			field(name, "%s%s", s.Facts[name], note(explained[name+" "+s.Facts[name]]))
		}
		for _, warning := range s.Warnings {
			field("warning", "%s", strings.ReplaceAll(warning, "\n", ": "))
		}
	}
	return w.Flush()
}

// explained says what a fact means for sandboxes.
var explained = map[string]string{
	"firewall hardened": "sandboxes reach neither the host's services nor a cloud's metadata, whatever their egress",
	"firewall open":     "sandboxes whose egress is allowed reach the host's services and a cloud's metadata; \"sandbox hosts harden\" closes that",
}
