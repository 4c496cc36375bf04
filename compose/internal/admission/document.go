package admission

import (
	"fmt"
	"slices"
	"strings"
)

//go:generate go run ./generate

// sections order the document from what runs as written to what never runs.
var sections = []struct {
	class        Class
	title, about string
}{
	{Never, "Refused, whatever the profile says", "What follows can reach the host, another sandbox or the caller, or cannot be known before it runs."},
	{Profile, "Refused, unless the profile allows it", "A profile names the rule under `config.allow`, which lets through what the last column says and nothing else. What that was stands in the plan and the record, with file and line, and the rules in the events."},
	{Rewrite, "Accepted, and runs otherwise than written", "Each rewrite of a file stands in the plan and the record, with the path of the attribute."},
	{Allow, "Runs as written", "Values may still be refused by a rule above."},
}

// Document is docs/admission.md: the table of the rules, from the rules.
func Document() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Admission

What a repository's compose file may ask for. The client judges the file before anything is created, by a closed list: an
attribute of the Compose Specification that stands in no rule is refused, and a test fails when the specification gains
one. All that is wrong is reported at once, each with its rule, the path of the attribute, the file and the line, and what
to write instead: `+"`sandbox plan --input repo=.`"+` shows it and needs no host.

This page is generated from the rules (`+"`make generate`"+`). Attributes below `+"`services.*`"+` stand without that prefix; `+"`**`"+` is
everything below, `+"`[]`"+` any item, a leading `+"`/`"+` the top of the file. A rule without attributes judges what no single
attribute shows. "by value": some values are fine.

`)
	for _, s := range sections {
		fmt.Fprintf(&b, "## %s\n\n%s\n\n", s.title, s.about)
		switch s.class {
		case Allow:
			b.WriteString("| Rule | Attributes |\n|---|---|\n")
		case Profile:
			b.WriteString("| Rule | Attributes | Why | Instead | A profile lets through |\n|---|---|---|---|---|\n")
		default:
			b.WriteString("| Rule | Attributes | Why | Instead |\n|---|---|---|---|\n")
		}
		for _, r := range rules {
			if r.Class == s.class {
				b.WriteString(r.row())
			}
		}
		b.WriteString("\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// row is the rule's line of the table.
func (r *Rule) row() string {
	var attributes []string
	for attribute := range strings.FieldsSeq(r.Service) {
		attributes = append(attributes, "`"+attribute+"`")
	}
	for attribute := range strings.FieldsSeq(r.Project) {
		attributes = append(attributes, "`"+topLevel(attribute)+"`")
	}
	slices.Sort(attributes)
	if r.Class == Allow {
		return fmt.Sprintf("| %s | %s |\n", r.ID, strings.Join(attributes, " "))
	}
	if r.ByValue && len(attributes) > 0 {
		attributes = append(attributes, "(by value)")
	}
	columns := []string{r.ID, strings.Join(attributes, " "), cell(r.Reason), cell(r.Hint)}
	if r.Class == Profile {
		columns = append(columns, cell(r.Grants))
	}
	return "| " + strings.Join(columns, " | ") + " |\n"
}

// topLevel tells an attribute of the file from one of a service of the same name.
func topLevel(attribute string) string { return "/" + attribute }

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
