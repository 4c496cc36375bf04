package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandbox/doctor"
	"github.com/sand-boxer/sandboxer/examples/sandbox/settings"
	"github.com/spf13/cobra"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Check this machine and every host, and say what to fix", Args: cobra.NoArgs,
		Long: "Read the configuration, look for secrets, open the records, ask the State Hub and every\n" +
			"host, and say for each what is well, what is weaker than it could be and what does not\n" +
			"work, with what to do about it. Exits 0 unless something does not work, then 5 if no\n" +
			"host can be used and 1 otherwise.\n\n" +
			"Nothing is made, recorded or delivered, and no secret is read. As whenever they are\n" +
			"used, records of an earlier version are brought up to this one, and a host starts\n" +
			"the process that ends sandboxes whose time is over, where that is missing.",
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
	a.looking = true
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
	a.diagnoseSecrets(ctx, d)
	c, err := a.open(ctx)
	if err != nil {
		d.AddError("records", err)
		return d, true
	}
	d.Add("records", doctor.OK, "", "%s", a.records())
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

// records says where they are, or will be.
func (a *app) records() string {
	path, _ := a.Database() // what is wrong with it, opening has said
	if _, err := os.Stat(path); err != nil {
		return path + ", which the first sandbox makes"
	}
	return path
}

// diagnoseSecrets says which secrets, configured or named by a profile, would
// not be found.
func (a *app) diagnoseSecrets(ctx context.Context, d *doctor.Diagnosis) {
	sources, err := a.loadSecrets()
	if err != nil {
		return // that is said
	}
	wanted := map[string]string{} // by name, the profile
	for name := range sources {
		wanted[name] = ""
	}
	all, _ := a.LoadProfiles()
	for _, p := range all {
		for _, name := range p.Setup.SecretRefs {
			wanted[name] = p.ID
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if err := sources.CheckSecret(ctx, sandboxer.SecretRequest{Name: name, Profile: wanted[name]}); err != nil {
			d.Add("secret "+name, doctor.Failure, cmp.Or(sandboxer.Hint(err), "say in secrets.yaml where it comes from"), "%s", err)
		}
	}
}

// hubPatience is how long doctor waits for the State Hub.
const hubPatience = 5 * time.Second

// diagnoseDelivery says whether a hub answers, and which events it has not taken.
func (a *app) diagnoseDelivery(ctx context.Context, c *sandboxer.Client, d *doctor.Diagnosis) {
	if a.sink == nil {
		return
	}
	asking, cancel := context.WithTimeoutCause(ctx, hubPatience, fmt.Errorf("no answer within %v", hubPatience))
	defer cancel()
	if err := a.sink.Ping(asking); err != nil {
		d.Add("State Hub", doctor.Warning, cmp.Or(sandboxer.Hint(err), "see that it runs, and that url is its address; events wait until then, and sandbox deliver offers them"), "%s", err)
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
	switch {
	case a.json:
		return a.printJSON(d)
	case a.quiet:
		for _, subject := range d.Wanting() {
			fmt.Fprintln(a.out, subject)
		}
		return nil
	}
	return a.coloured(func(out io.Writer) error {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, f := range d.Findings {
			fmt.Fprintf(w, "%s\t%s\t%s\n", f.Level, f.Subject, strings.ReplaceAll(f.Detail, "\n", "\n\t\t"))
			if f.Fix != "" {
				fmt.Fprintf(w, "\t\t→ %s\n", strings.ReplaceAll(f.Fix, "\n", "\n\t\t  "))
			}
		}
		return w.Flush()
	})
}
