package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/spf13/cobra"
)

func (a *app) lifeCommands() []*cobra.Command {
	cmds := []*cobra.Command{a.createCommand(), a.planCommand(), a.getCommand(), a.listCommand(), a.extendCommand(), a.recreateCommand(), a.destroyCommand()}
	for _, c := range cmds {
		c.GroupID = "life"
	}
	return cmds
}

// requestFlags fill a CreateRequest from flags.
type requestFlags struct {
	req    sandboxer.CreateRequest
	inputs []string
	labels []string
	ttl    time.Duration
	policy string
}

func (r *requestFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.req.Profile, "profile", "profile.compose-e2e", "profile to use")
	f.StringArrayVar(&r.inputs, "input", nil, "input as name=value, repeatable; repo=PATH names the working tree")
	f.StringArrayVar(&r.labels, "label", nil, "label as key=value, repeatable")
	f.DurationVar(&r.ttl, "ttl", 0, "how long it may live (default: the profile's)")
	f.StringVar(&r.policy, "policy", "", "explicit, prefer-self-hosted or lowest-cost (default: the profile's)")
	f.StringVar(&r.req.Host, "host", "", "use exactly this host")
}

func (r *requestFlags) request(consumer sandboxer.Consumer) (sandboxer.CreateRequest, error) {
	req := r.req
	var err error
	if req.Inputs, err = pairs("--input", r.inputs); err != nil {
		return req, err
	}
	if req.Labels, err = pairs("--label", r.labels); err != nil {
		return req, err
	}
	req.TTL, req.Policy, req.Consumer = sandboxer.Duration(r.ttl), sandboxer.Policy(r.policy), consumer
	return req, nil
}

func pairs(flag string, given []string) (map[string]string, error) {
	out := map[string]string{}
	for _, p := range given {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, usageError{fmt.Errorf("%s %q is not of the form name=value", flag, p)}
		}
		if _, dup := out[k]; dup {
			return nil, usageError{fmt.Errorf("%s %s is given twice", flag, k)}
		}
		out[k] = v
	}
	return out, nil
}

// who is the consumer of what is created. A server knows it by the token, and
// is told only what was said.
func (a *app) who(cmd *cobra.Command) sandboxer.Consumer {
	c := a.consumer
	c.ActorType = sandboxer.ActorType(a.actorType)
	said := func(flag, variable string) bool {
		return a.server == "" || cmd.Flags().Changed(flag) || os.Getenv(variable) != ""
	}
	if !said("project", "SANDBOXER_PROJECT") {
		c.Project = ""
	}
	if !said("actor-type", "SANDBOXER_ACTOR_TYPE") {
		c.ActorType = ""
	}
	if !said("actor", "SANDBOXER_ACTOR") {
		c.Actor = ""
	}
	return c
}

func (a *app) createCommand() *cobra.Command {
	var flags requestFlags
	cmd := &cobra.Command{
		Use: "create --input repo=PATH", Short: "Establish a sandbox and wait until it is ready", Args: cobra.NoArgs,
		Long: "Establish a sandbox from the compose file of a working tree and wait until it is\nready. A create that fails leaves nothing behind, unless told to keep it.",
		Example: `  sandbox create --profile profile.compose-e2e --input repo=/path/to/repo
  sandbox create --input repo=. --ttl 2h --label ticket=42
  sandbox create --input repo=. --host sandboxer01 --json
  id=$(sandbox create -q --input repo=. --key "$CI_JOB_ID")`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			req, err := flags.request(a.who(cmd))
			if err != nil {
				return err
			}
			c, err := a.operations(cmd.Context())
			if err != nil {
				return err
			}
			progress := a.progress()
			s, err := c.Create(sandboxer.WithProgress(cmd.Context(), progress.report), req)
			progress.done()
			if s != nil && (err == nil || a.json) {
				if printErr := a.printSandbox(s); printErr != nil {
					return printErr
				}
			}
			return err
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&flags.req.KeepFailed, "keep-failed", false, "leave a failed sandbox up to look at; destroy it yourself")
	cmd.Flags().StringVar(&flags.req.IdempotencyKey, "key", "", "idempotency key: repeating the call gives the same sandbox")
	a.consumerFlags(cmd)
	return cmd
}

func (a *app) planCommand() *cobra.Command {
	var flags requestFlags
	var probe bool
	cmd := &cobra.Command{
		Use: "plan --input repo=PATH", Short: "Say what create would do, and create nothing", Args: cobra.NoArgs,
		Long:    "Say where a sandbox would go, what admission allows, rewrites or refuses, and what\nit would cost. Nothing is created; without --probe no host is contacted.\nExits 0 if it would be admitted and 4 if not.",
		Example: "  sandbox plan --input repo=.\n  sandbox plan --input repo=. --json | jq .admission.violations\n  sandbox plan --input repo=. --probe",
		RunE: func(cmd *cobra.Command, _ []string) error {
			req, err := flags.request(a.who(cmd))
			if err != nil {
				return err
			}
			c, err := a.operations(cmd.Context())
			if err != nil {
				return err
			}
			plan, err := c.Plan(cmd.Context(), req, sandboxer.PlanOptions{Probe: probe})
			if plan == nil {
				return err
			}
			if printErr := a.printPlan(plan); printErr != nil {
				return printErr
			}
			if err == nil && plan.Admission.Verdict == sandboxer.Deny {
				return refused{plan.Admission}
			}
			return err
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&probe, "probe", false, "ask every host whether it can be used now")
	a.consumerFlags(cmd)
	return cmd
}

// refused ends plan with the right exit code; what was refused is printed already.
type refused struct{ sandboxer.Admission }

func (refused) Error() string        { return "" }
func (refused) Is(target error) bool { return target == sandboxer.ErrAdmission }

func (a *app) getCommand() *cobra.Command {
	var recorded bool
	cmd := &cobra.Command{
		Use: "get ID", Short: "Show a sandbox, and what its host holds of it now", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeID(),
		Example: "  sandbox get k3jx\n  sandbox get ID --json | jq -r .reachability.services[].name\n  sandbox get ID --recorded",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSandbox(cmd.Context(), args[0], func(ctx context.Context, c operations, id string) (*sandboxer.Sandbox, error) {
				s, err := c.Get(ctx, id)
				if err != nil || recorded || s.State.Terminal() {
					return s, err
				}
				return c.Inspect(ctx, id)
			})
		},
	}
	cmd.Flags().BoolVar(&recorded, "recorded", false, "only what is recorded; contact no host")
	return cmd
}

// withSandbox runs an operation on one sandbox and prints what it returns.
func (a *app) withSandbox(ctx context.Context, given string, f func(context.Context, operations, string) (*sandboxer.Sandbox, error)) error {
	id, err := a.resolve(ctx, given)
	if err != nil {
		return err
	}
	c, err := a.operations(ctx)
	if err != nil {
		return err
	}
	progress := a.progress()
	s, err := f(sandboxer.WithProgress(ctx, progress.report), c, id)
	progress.done()
	if s != nil && (err == nil || a.json) {
		if printErr := a.printSandbox(s); printErr != nil {
			return printErr
		}
	}
	return err
}

func (a *app) listCommand() *cobra.Command {
	var f sandboxer.Filter
	var states, labels []string
	var actorType string
	var all, watch bool
	cmd := &cobra.Command{
		Use: "list", Short: "List sandboxes", Aliases: []string{"ls"}, Args: cobra.NoArgs,
		Example: "  sandbox list\n  sandbox list --all --project shop\n  sandbox list --state ready --state active -q\n  sandbox list --watch -o wide",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.operations(cmd.Context())
			if err != nil {
				return err
			}
			if f.Labels, err = pairs("--label", labels); err != nil {
				return err
			}
			f.ActorType = sandboxer.ActorType(actorType)
			if f.States, err = wantedStates(states, all); err != nil {
				return err
			}
			show := func() (string, error) {
				list, err := c.List(cmd.Context(), f)
				if err != nil {
					return "", err
				}
				return changes(list), a.printList(list)
			}
			if watch {
				return a.watch(cmd.Context(), time.Second, show)
			}
			_, err = show()
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&states, "state", nil, "only this state, repeatable")
	fl.BoolVarP(&all, "all", "a", false, "destroyed ones too")
	fl.BoolVarP(&watch, "watch", "w", false, "show it every second until interrupted; where it is no terminal, at every change")
	fl.StringVar(&f.Project, "project", "", "only of this project")
	fl.StringVar(&actorType, "actor-type", "", "only of this actor type")
	fl.StringVar(&f.Profile, "profile", "", "only of this profile")
	fl.StringVar(&f.Host, "host", "", "only on this host")
	fl.StringArrayVar(&labels, "label", nil, "only with this label key=value, repeatable")
	return cmd
}

// changes is what of a list is not the time that passes.
func changes(list []sandboxer.Sandbox) string {
	var text strings.Builder
	for _, s := range list {
		fmt.Fprintln(&text, s.ID, s.Generation, s.State, s.Reason, s.ExpiresAt.Unix())
	}
	return text.String()
}

func wantedStates(given []string, all bool) ([]sandboxer.State, error) {
	var out []sandboxer.State
	for _, g := range given {
		s := sandboxer.State(g)
		if !slices.Contains(sandboxer.States(), s) {
			return nil, usageError{fmt.Errorf("--state %q is not one of %q", g, sandboxer.States())}
		}
		out = append(out, s)
	}
	if len(out) > 0 || all {
		return out, nil
	}
	for _, s := range sandboxer.States() {
		if !s.Terminal() {
			out = append(out, s)
		}
	}
	return out, nil
}

func (a *app) extendCommand() *cobra.Command {
	return &cobra.Command{
		Use: "extend ID DURATION", Short: "Let a sandbox live at least so long from now", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeID(),
		Long:    "Let a sandbox live at least so long from now. A life is never shortened; beyond the\nprofile's max_ttl the call fails and changes nothing.",
		Example: "  sandbox extend k3jx 2h",
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := time.ParseDuration(args[1])
			if err != nil {
				return usageError{fmt.Errorf("%q is not a duration: write 90s, 30m or 1h30m", args[1])}
			}
			return a.withSandbox(cmd.Context(), args[0], func(ctx context.Context, c operations, id string) (*sandboxer.Sandbox, error) {
				return c.ExtendTTL(ctx, id, d)
			})
		},
	}
}

func (a *app) recreateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "recreate ID", Short: "Tear a sandbox down and establish it again under its id", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeID(),
		Long:    "Tear a sandbox down and establish it again from the working tree as it is now, on\nthe same host, with the same id and expiry and the next generation.",
		Example: "  sandbox recreate k3jx",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSandbox(cmd.Context(), args[0], func(ctx context.Context, c operations, id string) (*sandboxer.Sandbox, error) {
				return c.Recreate(ctx, id)
			})
		},
	}
}

func (a *app) destroyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "destroy ID…", Short: "Remove sandboxes and prove them absent", Aliases: []string{"rm"}, Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completes(a.offerIDs),
		Long:    "Remove sandboxes and prove them absent: their hosts are asked again afterwards. Legal\nin every state; destroying a destroyed one is fine. What cannot be proved absent is\nlisted, the sandbox stays destroying, and calling again continues.",
		Example: "  sandbox destroy k3jx\n  sandbox destroy $(sandbox list -q --project shop)",
		RunE: func(cmd *cobra.Command, args []string) error {
			var first error
			for _, given := range args {
				err := a.withSandbox(cmd.Context(), given, func(ctx context.Context, c operations, id string) (*sandboxer.Sandbox, error) {
					return c.Destroy(ctx, id)
				})
				if err != nil && first != nil {
					a.explain(err)
				} else if err != nil {
					first = err
				}
			}
			return first
		},
	}
}
