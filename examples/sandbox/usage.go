package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/spf13/cobra"
)

// usageBy are the ways to add up usage.
var usageBy = []string{"sandbox", "consumer", "project", "host"}

// A usageRow is what a group used, from its event history.
type usageRow struct {
	Group     string  `json:"group"`
	Sandboxes int     `json:"sandboxes"`
	Seconds   float64 `json:"seconds"`        // not destroyed
	Usable    float64 `json:"usable_seconds"` // ready or active
}

func (a *app) usageCommand() *cobra.Command {
	by := "consumer"
	cmd := &cobra.Command{
		Use: "usage", Short: "Add up how long sandboxes existed, from their history", Args: cobra.NoArgs,
		Example: "  sandbox usage\n  sandbox usage --by project --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(usageBy, by) {
				return usageError{fmt.Errorf("--by %q is not one of %q", by, usageBy)}
			}
			c, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			events, err := c.Events(cmd.Context(), "", 0)
			if err != nil {
				return err
			}
			return a.printUsage(addUp(events, by))
		},
	}
	cmd.Flags().StringVar(&by, "by", by, "sandbox, consumer, project or host")
	return cmd
}

func addUp(events []sandboxer.Event, by string) []usageRow {
	histories := map[string][]sandboxer.Event{}
	for _, e := range events {
		histories[e.SandboxID] = append(histories[e.SandboxID], e)
	}
	rows := map[string]usageRow{}
	for _, history := range histories {
		m := sandboxer.MeterOf(history, time.Now())
		group := cmp.Or(map[string]string{"sandbox": m.SandboxID, "consumer": m.Consumer.String(), "project": m.Consumer.Project, "host": m.Host}[by], "none")
		row := rows[group]
		row.Group = group
		row.Sandboxes++
		for state, seconds := range m.Seconds {
			row.Seconds += seconds
			if state == sandboxer.StateReady || state == sandboxer.StateActive {
				row.Usable += seconds
			}
		}
		rows[group] = row
	}
	return slices.SortedFunc(maps.Values(rows), func(a, b usageRow) int { return cmp.Compare(a.Group, b.Group) })
}

func (a *app) printUsage(rows []usageRow) error {
	if a.json {
		return a.printJSON(append([]usageRow{}, rows...))
	}
	return a.table("GROUP\tSANDBOXES\tTIME\tUSABLE", func(w io.Writer) {
		for _, r := range rows {
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", r.Group, r.Sandboxes, short(time.Duration(r.Seconds*1e9)), short(time.Duration(r.Usable*1e9)))
		}
	})
}
