package main

import (
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/spf13/cobra"
)

// completeProfiles offers the ids of profiles.
func (a *app) completeProfiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	all, err := a.LoadProfiles()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []string
	for _, p := range all {
		out = append(out, p.ID+"\t"+p.Description)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeHosts offers the names of hosts.
func (a *app) completeHosts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	all, err := a.LoadHosts()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	if len(all) == 0 {
		return []string{"local"}, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, h := range all {
		out = append(out, h.Name+"\t"+h.Address)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeFlags offers the values of flags, wherever a command has them.
func (a *app) completeFlags(cmd *cobra.Command) {
	offers := map[string]cobra.CompletionFunc{
		"profile": a.completeProfiles, "host": a.completeHosts,
		"policy":     cobra.FixedCompletions([]string{string(sandboxer.PolicyExplicit), string(sandboxer.PolicyPreferSelfHosted), string(sandboxer.PolicyLowestCost)}, cobra.ShellCompDirectiveNoFileComp),
		"actor-type": cobra.FixedCompletions([]string{string(sandboxer.ActorAdmin), string(sandboxer.ActorAgent), string(sandboxer.ActorAutomation)}, cobra.ShellCompDirectiveNoFileComp),
		"output":     cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp),
		"state":      completeStates,
	}
	for name, offer := range offers {
		if cmd.Flags().Lookup(name) != nil || cmd.PersistentFlags().Lookup(name) != nil {
			_ = cmd.RegisterFlagCompletionFunc(name, offer) // there is such a flag
		}
	}
	for _, sub := range cmd.Commands() {
		a.completeFlags(sub)
	}
}

func completeStates(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var out []string
	for _, s := range sandboxer.States() {
		out = append(out, string(s))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeIDs offers the ids of sandboxes that are not destroyed.
func (a *app) completeIDs(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && cmd.Name() != "destroy" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := a.operations(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	all, err := c.List(cmd.Context(), sandboxer.Filter{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []string
	for _, s := range all {
		if !s.State.Terminal() && strings.HasPrefix(s.ID, typed) {
			out = append(out, s.ID+"\t"+string(s.State)+", "+s.Consumer.String())
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
