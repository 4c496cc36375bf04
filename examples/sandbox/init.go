package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer"
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
			"secrets.yaml, both with comments and with the schemas that editors check them by. Files\n" +
			"that are there are left alone; a hosts.yaml that lacks one of the addresses is an error.\nThen run sandbox doctor.",
		Example: "  sandbox init\n  sandbox init ssh://me@sandboxer01 ssh://me@sandboxer02:2222\n  sandbox init --dir /etc/sandboxer",
		RunE: func(_ *cobra.Command, addresses []string) error {
			given, err := parseAddresses(addresses)
			if err != nil {
				return usageError{err}
			}
			if dir == "" {
				if dir, err = settings.Dir(); err != nil {
					return err
				}
			}
			hosts := given
			if len(hosts) == 0 {
				hosts = []compose.HostConfig{{Name: "local", Address: "local:"}}
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
			if err != nil || len(given) == 0 {
				return err
			}
			return lacking(filepath.Join(dir, starter.HostsFile), given)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "directory to write to (default: where the other commands look)")
	return cmd
}

func parseAddresses(addresses []string) ([]compose.HostConfig, error) {
	var hosts []compose.HostConfig
	for i, address := range addresses {
		h, err := settings.ParseAddress(address)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", address, err)
		}
		if slices.Contains(addresses[:i], address) {
			return nil, fmt.Errorf("%s is given twice", address)
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// lacking is the error of a hosts file, one that was there before, without an
// entry for a machine that was given.
func lacking(path string, given []compose.HostConfig) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	there, err := compose.ParseHosts(path, text)
	if err != nil {
		return err
	}
	var missing []string
	for _, h := range given {
		if !slices.ContainsFunc(there, func(o compose.HostConfig) bool { return o.Address == h.Address }) {
			missing = append(missing, h.Address)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return sandboxer.WithHint(fmt.Errorf("%s is left as it is, without %s: %w", path, strings.Join(missing, " and "), sandboxer.ErrExists),
		"add under hosts: of that file, each with a name of its own:\n  - address: %s", strings.Join(missing, "\n    - address: "))
}
