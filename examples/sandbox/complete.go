package main

import (
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/spf13/cobra"
)

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
