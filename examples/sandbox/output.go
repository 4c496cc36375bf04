package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"gopkg.in/yaml.v3"
)

// formats are what --output takes.
var formats = []string{"table", "wide", "name", "json", "yaml"}

// outputFlags add the ways to print a result.
func (a *app) outputFlags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVarP(&a.output, "output", "o", "", "table, wide (more columns), name (names or ids only, as -q), json or yaml")
	f.BoolVar(&a.json, "json", false, "print one JSON document that validates against the published schema, as -o json")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "print names or ids only, no progress")
	cmd.PersistentPreRunE = func(*cobra.Command, []string) error { return a.chooseOutput() }
}

// chooseOutput makes the flags agree.
func (a *app) chooseOutput() error {
	switch {
	case a.output == "":
	case !slices.Contains(formats, a.output):
		return usageError{fmt.Errorf("--output %q is not one of %s", a.output, strings.Join(formats, ", "))}
	case a.json && a.output != "json", a.quiet && a.output != "name":
		return usageError{fmt.Errorf("--output %s contradicts --json or --quiet: give one of them", a.output)}
	}
	a.json = a.json || a.output == "json" || a.output == "yaml"
	a.quiet = a.quiet || a.output == "name"
	return nil
}

func (a *app) wide() bool { return a.output == "wide" }

// printJSON writes one indented document, in the format that was asked for.
func (a *app) printJSON(v any) error { return a.printDocument(v, "  ") }

// printLine writes one document of several.
func (a *app) printLine(v any) error {
	if a.output == "yaml" {
		fmt.Fprintln(a.out, "---")
	}
	return a.printDocument(v, "")
}

func (a *app) printDocument(v any, indent string) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return err
	}
	if a.output == "yaml" {
		return writeYAML(a.out, text.Bytes())
	}
	_, err := a.out.Write(text.Bytes())
	return err
}

// writeYAML writes a JSON document as YAML, keys in the same order.
func writeYAML(w io.Writer, document []byte) error {
	var root yaml.Node
	if err := yaml.Unmarshal(document, &root); err != nil {
		return err
	}
	plainStyle(&root)
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(&root); err != nil {
		return err
	}
	return enc.Close()
}

// plainStyle forgets how JSON writes things; what has to be quoted still is.
func plainStyle(n *yaml.Node) {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		n.Style = 0
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		n.Style = yaml.DoubleQuotedStyle
		if plainText.MatchString(n.Value) {
			n.Style = 0
		}
	}
	for _, c := range n.Content {
		plainStyle(c)
	}
}

// plainText is what the writer quotes by itself where it would be read as
// something else than text.
var plainText = regexp.MustCompile(`^[A-Za-z0-9_./][A-Za-z0-9_./ @-]*$`)

// colours has words of states and levels in colour.
var colours = []struct {
	words  *regexp.Regexp
	colour string
}{
	{regexp.MustCompile(`\b(ready|active)\b`), "32"},
	{regexp.MustCompile(`^ok\b`), "32"},
	{regexp.MustCompile(`\b(requested|provisioning|destroying)\b|^warning\b`), "33"},
	{regexp.MustCompile(`\b(failed|lost)\b|^failure\b`), "31"},
	{regexp.MustCompile(`\bdestroyed\b`), "2"},
}

// coloured has the words of states in colour if the output is a terminal, and
// its owner did not decline by NO_COLOR (no-color.org).
func (a *app) coloured(print func(io.Writer) error) error {
	if !(a.live || isTerminal(a.out)) || os.Getenv("NO_COLOR") != "" {
		return print(a.out)
	}
	var text bytes.Buffer
	if err := print(&text); err != nil {
		return err
	}
	_, err := io.WriteString(a.out, colour(text.String()))
	return err
}

// colour marks the first state or level of every line.
func colour(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		first, code := []int{len(line), len(line)}, ""
		for _, c := range colours {
			if at := c.words.FindStringIndex(line); at != nil && at[0] < first[0] {
				first, code = at, c.colour
			}
		}
		if code == "" {
			out.WriteString(line)
			continue
		}
		fmt.Fprintf(&out, "%s\x1b[%sm%s\x1b[0m%s", line[:first[0]], code, line[first[0]:first[1]], line[first[1]:])
	}
	return out.String()
}

// isTerminal reports that what is written can be moved and coloured.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}
