package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandbox/doctor"
	"github.com/sand-boxer/sandboxer/examples/sandbox/settings"
	"github.com/spf13/cobra"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Check this machine and every host, and say what to fix", Args: cobra.NoArgs,
		Long: "Read the configuration, open the records, ask every host, and say for each what is well,\n" +
			"what is weaker than it could be and what does not work, with what to do about it.\n" +
			"Nothing is changed. Exits 0 unless something does not work, then 5 if no host can be\nused and 1 otherwise.",
		Example: "  sandbox doctor\n  sandbox doctor --hosts ssh://me@sandboxer01\n  sandbox doctor --json | jq '.findings[] | select(.level != \"ok\")'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.noServer(); err != nil {
				return err
			}
			d, usable := a.diagnose(cmd.Context())
			if err := a.printDiagnosis(d); err != nil {
				return err
			}
			switch {
			case d.Worst() != doctor.Failure:
				return nil
			case !usable:
				return fmt.Errorf("no host can be used: %w", sandboxer.ErrUnavailable)
			}
			return fmt.Errorf("something does not work, see above")
		},
	}
}

// diagnose looks at everything, and goes on where something is broken.
func (a *app) diagnose(ctx context.Context) (_ *doctor.Diagnosis, usable bool) {
	d := new(doctor.Diagnosis)
	d.Add("sandbox", doctor.OK, "", "%s, %s, %s/%s", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, part := range []struct {
		subject, given, file string
		load                 func() (int, error)
	}{
		{"hosts", a.Hosts, "hosts.yaml", func() (int, error) { all, err := a.LoadHosts(); return len(all), err }},
		{"profiles", cmp.Or(a.ProfileDir, "embedded"), "", func() (int, error) { all, err := a.LoadProfiles(); return len(all), err }},
		{"secrets", a.Secrets, "secrets.yaml", func() (int, error) { all, err := a.loadSecrets(); return len(all), err }},
		{"State Hub", a.Hub, "hub.yaml", func() (int, error) { hub, err := a.LoadHub(); return len(hub.URL), err }},
	} {
		n, err := part.load()
		switch {
		case err != nil:
			d.AddError(part.subject, err)
		case n == 0:
			d.Add(part.subject, doctor.OK, "", "none configured%s", map[bool]string{true: ": this machine is used"}[part.subject == "hosts"])
		case part.subject == "State Hub":
			d.Add(part.subject, doctor.OK, "", "configured in %s", a.source(part.given, part.file))
		default:
			d.Add(part.subject, doctor.OK, "", "%d from %s", n, a.source(part.given, part.file))
		}
	}
	if d.Worst() == doctor.Failure {
		return d, true // there is no client without its configuration
	}
	path, _ := a.Database() // what is wrong with it, opening says
	c, err := a.open(ctx)
	if err != nil {
		d.AddError("records", err)
		return d, true
	}
	d.Add("records", doctor.OK, "", "%s", path)
	if all, err := c.List(ctx, sandboxer.Filter{}); err != nil {
		d.AddError("records", err)
	} else {
		d.AddSandboxes(all)
	}
	a.diagnoseDelivery(ctx, c, d)
	statuses := c.Hosts(ctx)
	d.AddHosts(statuses)
	for _, s := range statuses {
		usable = usable || s.Available
	}
	return d, usable
}

// diagnoseDelivery says which events a hub has not taken.
func (a *app) diagnoseDelivery(ctx context.Context, c *sandboxer.Client, d *doctor.Diagnosis) {
	if a.sink == nil {
		return
	}
	waiting, err := c.Undelivered(ctx, "")
	switch {
	case err != nil:
		d.AddError("State Hub", err)
	case len(waiting) > 0:
		d.Add("State Hub", doctor.Warning, "sandbox events --undelivered shows them, sandbox deliver offers them, sandbox redeliver those that were refused", "%d events are not delivered", len(waiting))
	default:
		d.Add("State Hub", doctor.OK, "", "every event is delivered")
	}
}

// source is where a part of the configuration comes from.
func (a *app) source(given, file string) string {
	if given != "" {
		return given
	}
	dir, _ := settings.Dir()
	return filepath.Join(dir, file)
}

func (a *app) printDiagnosis(d *doctor.Diagnosis) error {
	if a.json {
		return a.printJSON(d)
	}
	return a.coloured(func(out io.Writer) error {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, f := range d.Findings {
			if a.quiet && f.Level == doctor.OK {
				continue
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", f.Level, f.Subject, strings.ReplaceAll(f.Detail, "\n", "\n\t\t"))
			if f.Fix != "" {
				fmt.Fprintf(w, "\t\t→ %s\n", strings.ReplaceAll(f.Fix, "\n", "\n\t\t  "))
			}
		}
		return w.Flush()
	})
}
