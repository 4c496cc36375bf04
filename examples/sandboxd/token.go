package main

import (
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/server"
)

// tokenCommand draws a token: what the server may know goes to standard
// output, the token itself to standard error.
func tokenCommand(out, errOut io.Writer) *cobra.Command {
	var t server.Token
	var actorType string
	cmd := &cobra.Command{
		Use: "token", Short: "Make a token", Args: noArguments,
		Long: "Draw a token and print its entry for the file of tokens. The entry holds only the\n" +
			"token's SHA-256; the token goes to standard error and is nowhere kept.",
		Example: "  echo tokens: > tokens.yaml\n  sandboxd token --project shop --actor-type agt --actor ci --quota 5 >> tokens.yaml",
		RunE: func(*cobra.Command, []string) error {
			t.ActorType = sandboxer.ActorType(actorType)
			if err := t.Validate(); err != nil {
				return usageError{err}
			}
			token, sum := server.NewToken()
			fmt.Fprintf(out, "- sha256: %s\n  project: %s\n  actor_type: %s\n  actor: %s\n", sum, strconv.Quote(t.Project), t.ActorType, strconv.Quote(t.Actor))
			if t.Quota != 0 {
				fmt.Fprintf(out, "  quota: %d\n", t.Quota)
			}
			if t.Admin {
				fmt.Fprintln(out, "  admin: true")
			}
			if t.Workspaces != "" {
				fmt.Fprintf(out, "  workspaces: %s\n", strconv.Quote(t.Workspaces))
			}
			fmt.Fprintln(errOut, token)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&t.Project, "project", "", "project it is of")
	f.StringVar(&actorType, "actor-type", "", "adm, agt or atm")
	f.StringVar(&t.Actor, "actor", "", "who it is for")
	f.IntVar(&t.Quota, "quota", 0, "most live sandboxes, not with --admin (default: no limit)")
	f.BoolVar(&t.Admin, "admin", false, "sees every project and may create for others")
	f.StringVar(&t.Workspaces, "workspaces", "", "directory of its working trees (default: the server's)")
	return cmd
}
