package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/spf13/cobra"
)

// shells are what completion scripts are for.
var shells = []string{"bash", "zsh", "fish", "powershell"}

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "completion SHELL", Short: "Print what makes a shell complete what is typed", ValidArgs: shells, Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		Long: "Print the script that lets bash, zsh, fish or powershell complete commands, flags, ids,\n" +
			"profiles, hosts and services. A TAB reads the records, or asks the server that is named,\n" +
			"for two seconds at most, and changes nothing.",
		Example: "  source <(sandbox completion bash)     # for this shell; zsh too\n" +
			"  sandbox completion bash > ~/.local/share/bash-completion/completions/sandbox\n" +
			"  sandbox completion zsh > ~/.zfunc/_sandbox\n" +
			"  sandbox completion fish > ~/.config/fish/completions/sandbox.fish",
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.out, true)
			case "zsh":
				return root.GenZshCompletion(a.out)
			case "fish":
				return root.GenFishCompletion(a.out, true)
			}
			return root.GenPowerShellCompletionWithDesc(a.out)
		},
	}
}

// An offer is what can stand behind the arguments that are typed already, each
// with a tab and what is known of it, if anything.
type offer func(ctx context.Context, typed []string) ([]string, error)

// patience is how long a TAB may take.
const patience = 2 * time.Second

// completes makes an offer one that changes nothing and ends in time.
func (a *app) completes(o offer) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		a.looking = true
		ctx, cancel := context.WithTimeout(cmd.Context(), patience)
		defer cancel()
		all, err := o(ctx, args)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return slices.DeleteFunc(all, func(s string) bool { return !strings.HasPrefix(s, begun) }), cobra.ShellCompDirectiveNoFileComp
	}
}

// first restricts an offer to the first argument.
func first(o offer) offer {
	return func(ctx context.Context, typed []string) ([]string, error) {
		if len(typed) > 0 {
			return nil, nil
		}
		return o(ctx, typed)
	}
}

// completeID offers the ids of sandboxes that are not destroyed, for a command
// that takes one.
func (a *app) completeID() cobra.CompletionFunc { return a.completes(first(a.offerIDs)) }

// offerIDs are those that are not typed already.
func (a *app) offerIDs(ctx context.Context, typed []string) ([]string, error) {
	c, err := a.operations(ctx)
	if err != nil {
		return nil, err
	}
	all, err := c.List(ctx, sandboxer.Filter{})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, s := range all {
		if !s.State.Terminal() && !slices.Contains(typed, s.ID) {
			out = append(out, s.ID+"\t"+string(s.State)+", "+s.Consumer.String())
		}
	}
	return out, nil
}

// offerProfiles are those of the server, if one is named.
func (a *app) offerProfiles(ctx context.Context, _ []string) ([]string, error) {
	load := func(context.Context) ([]sandboxer.Profile, error) { return a.LoadProfiles() } // which needs no records
	if a.server != "" {
		load = a.profiles
	}
	all, err := load(ctx)
	var out []string
	for _, p := range all {
		out = append(out, p.ID+"\t"+p.Description)
	}
	return out, err
}

// offerHosts are those of the server, if one is named.
func (a *app) offerHosts(ctx context.Context, typed []string) ([]string, error) {
	if a.server == "" {
		return a.offerOwnHosts(ctx, typed)
	}
	all, err := a.hosts(ctx)
	var out []string
	for _, s := range all {
		out = append(out, s.Host.Name+"\t"+s.Host.Address)
	}
	return out, err
}

// offerOwnHosts are those that this program may do something to itself, less
// those that are typed already.
func (a *app) offerOwnHosts(_ context.Context, typed []string) ([]string, error) {
	if err := a.noServer(); err != nil {
		return nil, err
	}
	all, err := a.LoadHosts()
	if err == nil && len(all) == 0 {
		return []string{"local\tthis machine"}, nil
	}
	var out []string
	for _, h := range all {
		if !slices.Contains(typed, h.Name) {
			out = append(out, h.Name+"\t"+h.Address)
		}
	}
	return out, err
}

// completeService offers an id and then what of the sandbox's services can be
// typed behind it.
func (a *app) completeService(typed func(sandboxer.Service) []string) cobra.CompletionFunc {
	return a.completes(func(ctx context.Context, args []string) ([]string, error) {
		if err := a.noServer(); err != nil || len(args) > 1 {
			return nil, err
		}
		if len(args) == 0 {
			return a.offerIDs(ctx, nil)
		}
		id, err := a.resolve(ctx, args[0])
		if err != nil {
			return nil, err
		}
		s, err := a.client.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		var out []string
		for _, service := range services(s) {
			out = append(out, typed(service)...)
		}
		return out, nil
	})
}

func serviceName(s sandboxer.Service) []string { return []string{s.Name} }

func servicePorts(s sandboxer.Service) []string {
	var out []string
	for _, p := range s.Ports {
		out = append(out, fmt.Sprintf("%s:%d", s.Name, p.Port))
	}
	return out
}

// completeFlags offers the values of flags, wherever a command has them, and
// keeps shells from offering files as arguments of commands that take none.
func (a *app) completeFlags(cmd *cobra.Command) {
	offers := map[string]cobra.CompletionFunc{
		"profile": a.completes(a.offerProfiles), "host": a.completes(a.offerHosts),
		"policy":     fixed(sandboxer.PolicyExplicit, sandboxer.PolicyPreferSelfHosted, sandboxer.PolicyLowestCost),
		"actor-type": fixed(sandboxer.ActorAdmin, sandboxer.ActorAgent, sandboxer.ActorAutomation),
		"by":         fixed(sandboxer.ByConsumer, sandboxer.ByProject, sandboxer.ByHost, sandboxer.ByProfile, sandboxer.BySandbox),
		"output":     fixed(formats...),
		"state":      fixed(sandboxer.States()...),
	}
	for name, offer := range offers {
		if cmd.Flags().Lookup(name) != nil || cmd.PersistentFlags().Lookup(name) != nil {
			_ = cmd.RegisterFlagCompletionFunc(name, offer) // there is such a flag
		}
	}
	if cmd.ValidArgsFunction == nil && len(cmd.ValidArgs) == 0 {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	for _, sub := range cmd.Commands() {
		a.completeFlags(sub)
	}
}

func fixed[T ~string](values ...T) cobra.CompletionFunc {
	var out []string
	for _, v := range values {
		out = append(out, string(v))
	}
	return cobra.FixedCompletions(out, cobra.ShellCompDirectiveNoFileComp)
}
