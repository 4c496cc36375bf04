package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sand-boxer/sandboxer"
)

func (a *app) printSandbox(s *sandboxer.Sandbox) error {
	switch {
	case a.json:
		return a.printJSON(s)
	case a.quiet:
		_, err := fmt.Fprintln(a.out, s.ID)
		return err
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	field := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	field("id", "%s", s.ID)
	field("state", "%s (%s) for %s", s.State, s.Reason, short(time.Since(s.StateSince)))
	field("profile", "%s, generation %d", s.Profile.ID, s.Generation)
	if s.Host != "" {
		field("host", "%s: %s", s.Host, s.Route.Reason)
	}
	field("consumer", "%s", s.Consumer)
	if !s.State.Terminal() {
		field("expires", "%s, at most %s", until(s.ExpiresAt), until(s.MaxExpiresAt))
	}
	if s.Failure != nil {
		field("failure", "%s", s.Failure.Message)
	}
	if s.Removal != nil && s.State.Terminal() {
		field("proved absent", "%s, after removing %s", s.Removal.VerifiedAt.Local().Format(time.TimeOnly), counts(s.Removal.Removed))
	}
	if s.Removal != nil && len(s.Removal.Residue) > 0 {
		field("left", "%s", counts(s.Removal.Residue))
	}
	if o := s.Observed; o != nil {
		field("seen now", "%s%s", o.Presence, note(o.Detail))
	}
	for _, service := range services(s) {
		field("service", "%s: %s%s", service.Name, cmp.Or(service.State, "unknown"), portList(service.Ports))
	}
	for _, c := range controls(s) {
		field("control", "%s is %s%s", c.Name, c.Level, note(c.Detail))
	}
	return w.Flush()
}

// services prefers what is there now to what was recorded.
func services(s *sandboxer.Sandbox) []sandboxer.Service {
	if s.Observed != nil && len(s.Observed.Services) > 0 {
		return s.Observed.Services
	}
	if s.Reachability != nil && !s.State.Terminal() {
		return s.Reachability.Services
	}
	return nil
}

// controls of a sandbox that is gone hold nothing any more.
func controls(s *sandboxer.Sandbox) []sandboxer.Control {
	if s.State.Terminal() {
		return nil
	}
	return s.Controls
}

func portList(ports []sandboxer.Port) string {
	var out []string
	for _, p := range ports {
		text := fmt.Sprint(p.Port)
		if p.Published != "" {
			text += fmt.Sprintf(" (instead of published %s)", p.Published)
		}
		out = append(out, text)
	}
	if len(out) == 0 {
		return ""
	}
	return ", port " + strings.Join(out, ", ")
}

func note(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

// counts reads "4 containers, 1 directory".
func counts(rs []sandboxer.Resource) string {
	by := map[string]int{}
	for _, r := range rs {
		by[r.Kind]++
	}
	var out []string
	for _, kind := range slices.Sorted(maps.Keys(by)) {
		out = append(out, fmt.Sprintf("%d %s", by[kind], plural(by[kind], kind)))
	}
	return cmp.Or(strings.Join(out, ", "), "nothing")
}

func plural(n int, noun string) string {
	stem, isY := strings.CutSuffix(noun, "y")
	switch {
	case n == 1:
		return noun
	case isY:
		return stem + "ies"
	}
	return noun + "s"
}

func (a *app) printList(list []sandboxer.Sandbox) error {
	switch {
	case a.json:
		return a.printJSON(append([]sandboxer.Sandbox{}, list...))
	case a.quiet:
		for _, s := range list {
			fmt.Fprintln(a.out, s.ID)
		}
		return nil
	case len(list) == 0:
		fmt.Fprintln(a.err, "no sandboxes")
		return nil
	}
	header := "ID\tSTATE\tPROFILE\tHOST\tCONSUMER\tAGE\tEXPIRES"
	if a.wide() {
		header += "\tGENERATION\tSINCE\tREASON\tLABELS"
	}
	return a.table(header, func(w io.Writer) {
		for _, s := range list {
			expires := until(s.ExpiresAt)
			if s.State.Terminal() {
				expires = "-"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s", s.ID, s.State, s.Profile.ID, cmp.Or(s.Host, "-"), s.Consumer, short(time.Since(s.CreatedAt)), expires)
			if a.wide() {
				fmt.Fprintf(w, "\t%d\t%s\t%s\t%s", s.Generation, short(time.Since(s.StateSince)), s.Reason, labels(s.Labels))
			}
			fmt.Fprintln(w)
		}
	})
}

func labels(all map[string]string) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		out = append(out, key+"="+all[key])
	}
	return cmp.Or(strings.Join(out, ","), "-")
}

func (a *app) table(header string, rows func(io.Writer)) error {
	return a.coloured(func(out io.Writer) error {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, header)
		rows(w)
		return w.Flush()
	})
}

func (a *app) printPlan(p *sandboxer.Plan) error {
	switch {
	case a.json:
		return a.printJSON(p)
	case a.quiet:
		return a.printName(p.Route.Chosen)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "admission\t%s\n", p.Admission.Verdict)
	fmt.Fprintf(w, "route\t%s\n", cmp.Or(p.Route.Chosen+note(p.Route.Reason), "none"))
	if p.Cost != nil {
		fmt.Fprintf(w, "cost\t%s\n", p.Cost)
	}
	for _, c := range p.Route.Candidates {
		if c.Rejected != "" {
			fmt.Fprintf(w, "not\t%s: %s\n", c.Host, c.Rejected)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	printViolations(a.out, p.Admission.Violations)
	for _, v := range p.Admission.Loosened {
		fmt.Fprintf(a.out, "loosened %s\n", v)
	}
	for _, r := range p.Admission.Rewrites {
		fmt.Fprintf(a.out, "rewrite  %s: %s [%s]\n", r.Path, r.Message, r.Rule)
	}
	return nil
}

func printViolations(w io.Writer, violations []sandboxer.Violation) {
	for _, v := range violations {
		fmt.Fprintf(w, "refused  %s\n", v)
		if v.Hint != "" {
			fmt.Fprintf(w, "         %s\n", v.Hint)
		}
	}
}

func (a *app) printEvents(events []sandboxer.Event) error {
	switch {
	case a.json:
		for _, e := range events {
			if err := a.printLine(e); err != nil {
				return err
			}
		}
		return nil
	case a.quiet:
		for _, e := range events {
			fmt.Fprintln(a.out, e.ID)
		}
		return nil
	}
	return a.table("TIME\tSANDBOX\tNO\tSTATE\tREASON\tHOST\tMESSAGE", func(w io.Writer) {
		for _, e := range events {
			state := string(e.State)
			if e.From != "" && e.From != e.State {
				state = string(e.From) + " → " + state
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", e.Time.Local().Format(time.DateTime), e.SandboxID, e.Seq, state, e.Reason, cmp.Or(e.Host, "-"), firstLine(e.Message))
		}
	})
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func (a *app) printReport(r *sandboxer.Report) error {
	switch {
	case a.json:
		return a.printJSON(r)
	case a.quiet:
		return a.printReportIDs(r)
	}
	rows := []struct {
		name string
		ids  []string
	}{{"destroyed", r.Destroyed}, {"lost", r.Lost}, {"returned", r.Returned}, {"adopted", r.Adopted}, {"in progress", r.InProgress}, {"stuck", r.Stuck}, {"hosts not reached", r.Unknown}}
	for _, f := range r.Orphans {
		rows = append(rows, struct {
			name string
			ids  []string
		}{"orphan", []string{f.Handle.SandboxID + " on " + f.Handle.Host}})
	}
	nothing := true
	for _, row := range rows {
		for _, id := range row.ids {
			nothing = false
			fmt.Fprintf(a.out, "%s\t%s\n", row.name, id)
		}
	}
	if nothing {
		fmt.Fprintln(a.err, "records and hosts agree")
	}
	return nil
}

// printReportIDs prints the ids of the sandboxes that something is said of.
func (a *app) printReportIDs(r *sandboxer.Report) error {
	ids := slices.Concat(r.Destroyed, r.Lost, r.Returned, r.Adopted, r.InProgress, r.Stuck)
	for _, f := range r.Orphans {
		ids = append(ids, f.Handle.SandboxID)
	}
	for _, id := range ids {
		fmt.Fprintln(a.out, id)
	}
	return nil
}

// printName prints a name, if there is one.
func (a *app) printName(name string) error {
	if name == "" {
		return nil
	}
	_, err := fmt.Fprintln(a.out, name)
	return err
}

func (a *app) printProfiles(all []sandboxer.Profile) error {
	switch {
	case a.json:
		return a.printJSON(all)
	case a.quiet:
		for _, p := range all {
			fmt.Fprintln(a.out, p.ID)
		}
		return nil
	}
	return a.table("PROFILE\tEXTENSION\tISOLATION\tEGRESS\tTTL\tINPUTS\tDESCRIPTION", func(w io.Writer) {
		for _, p := range all {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.ID, cmp.Or(p.Extension, "any"), p.Isolation, p.Network.Egress, p.TTL,
				strings.Join(slices.Sorted(maps.Keys(p.Inputs)), ","), p.Description)
		}
	})
}

func (a *app) printExtensions(all []sandboxer.ExtensionInfo) error {
	switch {
	case a.json:
		return a.printJSON(all)
	case a.quiet:
		for _, i := range all {
			fmt.Fprintln(a.out, i.ID)
		}
		return nil
	}
	return a.table("EXTENSION\tVERSION\tPRICING\tISOLATION\tHOSTS\tDESCRIPTION", func(w io.Writer) {
		for _, i := range all {
			var hosts []string
			for _, h := range i.Hosts {
				hosts = append(hosts, h.Name)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", i.ID, i.Version, i.Pricing, strings.Trim(fmt.Sprint(i.Isolation), "[]"), strings.Join(hosts, ","), i.Description)
		}
	})
}

// explain says on standard error what went wrong and what to do about it.
func (a *app) explain(err error) {
	if err.Error() == "" {
		return
	}
	var admission *sandboxer.AdmissionError
	if errors.As(err, &admission) {
		fmt.Fprintf(a.err, "sandbox: %v:\n", sandboxer.ErrAdmission)
		printViolations(a.err, admission.Admission.Violations)
		return
	}
	fmt.Fprintf(a.err, "sandbox: %v\n", err)
	if log := logOf(err); log != "" {
		fmt.Fprintln(a.err, "the end of its log:")
		for line := range strings.Lines(lastLines(log, 20)) {
			fmt.Fprint(a.err, "  | ", strings.TrimRight(line, "\n"), "\n")
		}
	}
	if hint := sandboxer.Hint(err); hint != "" {
		fmt.Fprintf(a.err, "  %s\n", hint)
	}
}

func logOf(err error) string {
	var stage *sandboxer.StageError
	var notReady *sandboxer.NotReadyError
	switch {
	case errors.As(err, &notReady):
		return notReady.Log
	case errors.As(err, &stage):
		return stage.Log
	}
	return ""
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func until(t time.Time) string {
	left := time.Until(t)
	if left < 0 {
		return short(-left) + " ago"
	}
	return "in " + short(left)
}

// short writes a duration in its two largest units at most.
func short(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}
