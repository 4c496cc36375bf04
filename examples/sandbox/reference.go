package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

//go:generate sh -c "go run . reference > ../../docs/cli.md"

func (a *app) referenceCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reference", Short: "Print this reference as Markdown", Args: cobra.NoArgs, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return writeReference(a.out, cmd.Root())
		},
	}
}

// writeReference writes what --help says of every command, in one page.
func writeReference(w io.Writer, root *cobra.Command) error {
	page := new(strings.Builder)
	fmt.Fprintf(page, "# The command line\n\nGenerated from the commands themselves by `go generate ./...`; `sandbox COMMAND --help` says the same.\n\n```text\n%s\n```\n\n", root.Long)
	for _, g := range root.Groups() {
		fmt.Fprintf(page, "- %s ", g.Title)
		var links []string
		for _, c := range root.Commands() {
			if c.GroupID == g.ID {
				links = append(links, fmt.Sprintf("[%s](#%s)", c.Name(), anchor(c)))
			}
		}
		fmt.Fprintln(page, strings.Join(links, ", "))
	}
	fmt.Fprintf(page, "\n## Flags of every command\n\n%s", flagTable(root.PersistentFlags()))
	for _, g := range root.Groups() {
		for _, c := range root.Commands() {
			if c.GroupID == g.ID {
				section(page, c)
			}
		}
	}
	_, err := io.WriteString(w, page.String())
	return err
}

func anchor(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// section describes a command and, after it, those below it.
func section(page *strings.Builder, c *cobra.Command) {
	text := c.Short + "."
	if c.Long != "" {
		text = c.Long
	}
	fmt.Fprintf(page, "\n## %s\n\n%s\n\n```text\n%s\n```\n\n", c.CommandPath(), text, c.UseLine())
	if c.HasLocalFlags() && c.LocalNonPersistentFlags().HasFlags() {
		fmt.Fprintln(page, flagTable(c.LocalNonPersistentFlags()))
	}
	if c.Example != "" {
		fmt.Fprintf(page, "```text\n%s\n```\n", strings.ReplaceAll(c.Example[2:], "\n  ", "\n"))
	}
	for _, sub := range c.Commands() {
		section(page, sub)
	}
}

func flagTable(flags *pflag.FlagSet) string {
	var table strings.Builder
	fmt.Fprint(&table, "| Flag | Says |\n|---|---|\n")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || f.Name == "version" {
			return
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		kind, usage := pflag.UnquoteUsage(f)
		if kind != "" {
			name += " " + kind
		}
		fmt.Fprintf(&table, "| `%s` | %s |\n", name, strings.ReplaceAll(usage, "|", "\\|"))
	})
	return table.String()
}
