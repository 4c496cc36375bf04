package main

import (
	"fmt"

	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/examples/sandbox/settings"
	"github.com/sand-boxer/sandboxer/examples/sandbox/starter"
	"github.com/spf13/cobra"
)

func (a *app) initCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "init [ADDRESS…]", Short: "Write a commented configuration",
		Long: "Write hosts.yaml with the machines at the given addresses, or with this machine, and\n" +
			"secrets.yaml, both with comments and with the schemas that editors check them by. Files\nthat are there are left alone. Then run sandbox doctor.",
		Example: "  sandbox init\n  sandbox init ssh://me@sandboxer01 ssh://me@sandboxer02:2222\n  sandbox init --dir /etc/sandboxer",
		RunE: func(_ *cobra.Command, addresses []string) error {
			if len(addresses) == 0 {
				addresses = []string{"local:"}
			}
			var hosts []compose.HostConfig
			for _, address := range addresses {
				h, err := settings.ParseAddress(address)
				if err != nil {
					return usageError{fmt.Errorf("%s: %w", address, err)}
				}
				hosts = append(hosts, h)
			}
			if dir == "" {
				var err error
				if dir, err = settings.Dir(); err != nil {
					return err
				}
			}
			files, err := starter.Write(dir, hosts)
			for _, f := range files {
				switch {
				case f.Written:
					fmt.Fprintln(a.out, f.Path)
				default:
					fmt.Fprintf(a.err, "%s is there already and is left as it is\n", f.Path)
				}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "directory to write to (default: where the other commands look)")
	return cmd
}
