package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/spf13/cobra"
)

func (a *app) usageCommand() *cobra.Command {
	var since, until string
	var asCSV bool
	by := string(sandboxer.ByConsumer)
	cmd := &cobra.Command{
		Use: "usage", Short: "Add up what sandboxes used, from their history", Args: cobra.NoArgs,
		Long: `Add up what sandboxes used, from their recorded events alone. HELD is the time in
which something of them may have stood on a host; lost time counts only if the
sandbox was seen again. CPU and MEMORY are the caps that the profile asks for, times
the containers that ran, times the seconds in which they did. COST is by the hosts'
prices, for the time held.`,
		Example: "  sandbox usage\n  sandbox usage --by project --since 168h --json\n  sandbox usage --by host --since 2026-11-01 --until 2026-12-01 --csv",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var w sandboxer.Window
			var err error
			if w.Since, err = moment("--since", since); err != nil {
				return err
			}
			if w.Until, err = moment("--until", until); err != nil {
				return err
			}
			if asCSV && a.json {
				return usageError{fmt.Errorf("--csv and --json exclude each other")}
			}
			c, err := a.operations(cmd.Context())
			if err != nil {
				return err
			}
			meters, err := c.Usage(cmd.Context(), sandboxer.MeterBy(by), w)
			if err != nil {
				return err
			}
			if asCSV {
				return a.writeCSV(meters)
			}
			return a.printUsage(meters)
		},
	}
	cmd.Flags().StringVar(&by, "by", by, "consumer, project, host, profile or sandbox")
	cmd.Flags().StringVar(&since, "since", "", "count from here: a duration ago (24h), a date (2026-11-01, UTC) or a time (RFC 3339)")
	cmd.Flags().StringVar(&until, "until", "", "count to here, in the same forms (default: now)")
	cmd.Flags().BoolVar(&asCSV, "csv", false, "print comma-separated values with a header, costs as one column per currency")
	return cmd
}

// moment reads a point in time in any of the forms that people write.
func moment(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-d), nil
	}
	for _, form := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(form, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usageError{fmt.Errorf("%s %q is no duration (24h), date (2026-11-01) or time (2026-11-01T12:00:00Z)", flag, text)}
}

func (a *app) printUsage(meters []sandboxer.Meter) error {
	switch {
	case a.json:
		return a.printJSON(meters)
	case a.quiet:
		for _, m := range meters {
			fmt.Fprintln(a.out, m.Key)
		}
		return nil
	case len(meters) == 0:
		fmt.Fprintln(a.err, "nothing was used")
		return nil
	}
	return a.table(strings.ToUpper(string(meters[0].By))+"\tSANDBOXES\tGENERATIONS\tHELD\tUSABLE\tCPU\tMEMORY\tCOST", func(w io.Writer) {
		for _, m := range meters {
			fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", m.Key, m.Sandboxes, m.Generations, seconds(m.Held),
				seconds(m.Seconds[sandboxer.StateReady]+m.Seconds[sandboxer.StateActive]), seconds(m.CPUSeconds),
				fmt.Sprintf("%.1f GiB·h", m.MemorySeconds/(1<<30)/3600), amounts(m.Costs))
		}
	})
}

func seconds(s float64) string { return short(time.Duration(s * float64(time.Second))) }

func amounts(all []sandboxer.Amount) string {
	if len(all) == 0 {
		return "-"
	}
	var out []string
	for _, amount := range all {
		out = append(out, amount.String())
	}
	return strings.Join(out, " + ")
}

// writeCSV has a column for every state that sandboxes have, and one for every
// currency that was paid in.
func (a *app) writeCSV(meters []sandboxer.Meter) error {
	paid := map[string]bool{}
	for _, m := range meters {
		for _, amount := range m.Costs {
			paid[amount.Currency] = true
		}
	}
	currencies := slices.Sorted(maps.Keys(paid))
	header := []string{"by", "key", "sandboxes", "generations", "sandbox_seconds", "cpu_seconds", "memory_byte_seconds"}
	var states []sandboxer.State
	for _, s := range sandboxer.States() {
		if !s.Terminal() {
			states = append(states, s)
			header = append(header, string(s)+"_seconds")
		}
	}
	for _, c := range currencies {
		header = append(header, "cost_micros_"+c)
	}
	out := csv.NewWriter(a.out)
	_ = out.Write(header) // what goes wrong is in out.Error
	for _, m := range meters {
		row := []string{string(m.By), m.Key, strconv.Itoa(m.Sandboxes), strconv.Itoa(m.Generations), decimal(m.Held), decimal(m.CPUSeconds), decimal(m.MemorySeconds)}
		for _, s := range states {
			row = append(row, decimal(m.Seconds[s]))
		}
		for _, c := range currencies {
			cost := ""
			if i := slices.IndexFunc(m.Costs, func(a sandboxer.Amount) bool { return a.Currency == c }); i >= 0 {
				cost = strconv.FormatInt(m.Costs[i].Micros, 10)
			}
			row = append(row, cost)
		}
		_ = out.Write(row)
	}
	out.Flush()
	return out.Error()
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
