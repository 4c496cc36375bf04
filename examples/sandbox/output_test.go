package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/repotest"
	"github.com/sand-boxer/sandboxer/schemas"
)

// TestOutput: the formats tell the same.
func TestOutput(t *testing.T) {
	c := newCLI(t, `address: "local:"`)
	args := []string{"plan", "--input", "repo=" + repotest.Demo(t)}
	var fromJSON, fromYAML any
	if err := json.Unmarshal([]byte(c.must(append(args, "-o", "json")...)), &fromJSON); err != nil {
		t.Fatal(err)
	}
	text := c.must(append(args, "-o", "yaml")...)
	if err := yaml.Unmarshal([]byte(text), &fromYAML); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(fromYAML)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(again, &fromYAML); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromJSON, fromYAML); diff != "" {
		t.Errorf("JSON (-), YAML (+):\n%s", diff)
	}
	if strings.HasPrefix(text, "{") || c.must(append(args, "--json")...) != c.must(append(args, "-o", "json")...) {
		t.Errorf("YAML that is JSON, or another --json:\n%s", text)
	}
	if got, want := c.must("profiles", "-o", "name"), c.must("profiles", "-q"); got != want {
		t.Errorf("-o name gives %q, -q %q", got, want)
	}
	for _, args := range [][]string{{"-o", "xml"}, {"-o", "yaml", "--json"}, {"-o", "wide", "-q"}} {
		if code, out, errOut := c.run(append([]string{"list"}, args...)...); code != exitUsage || out != "" || !strings.Contains(errOut, "--output") {
			t.Errorf("%v: exit code %d, %q, %q", args, code, out, errOut)
		}
	}
}

// TestQuiet: names and ids, one a line, and nothing else.
func TestQuiet(t *testing.T) {
	c := newCLI(t, noEngine)
	ready, gone := c.records()
	all := set([]string{ready[0].ID, ready[1].ID, gone.ID})
	history := func(id string, last int) (events []string) {
		for seq := range last {
			events = append(events, fmt.Sprintf("%s-%d", id, seq+1))
		}
		return events
	}
	id := ready[0].ID
	for _, tt := range []struct {
		args []string
		want map[string]bool
	}{
		{[]string{"list", "--all"}, all},
		{[]string{"get", id, "--recorded"}, set([]string{id})},
		{[]string{"events", id}, set(history(id, 3))},
		{[]string{"events", id, "--undelivered"}, set(history(id, 3))},
		{[]string{"plan", "--input", "repo=" + repotest.Demo(t)}, set([]string{"local"})},
		{[]string{"profiles"}, set([]string{"profile.compose-e2e"})},
		{[]string{"profiles", "profile.compose-e2e"}, set([]string{"profile.compose-e2e"})},
		{[]string{"extensions"}, set([]string{"ext.compose-ssh"})},
		{[]string{"usage", "--by", "project"}, set([]string{"shop"})},
		{[]string{"hosts"}, set([]string{"local"})},
		{[]string{"doctor"}, set([]string{"host local"})},
		{[]string{"schema"}, set(schemas.Names())},
	} {
		for _, quiet := range [][]string{{"-q"}, {"-o", "name"}} {
			_, out, _ := c.run(append(tt.args, quiet...)...)
			if diff := cmp.Diff(tt.want, set(strings.Split(strings.TrimSpace(out), "\n"))); diff != "" {
				t.Errorf("%q (-want +got):\n%s", append(tt.args, quiet...), diff)
			}
		}
	}
}

// TestQuietReport: a reconcile prints the ids of sandboxes.
func TestQuietReport(t *testing.T) {
	var out, errOut bytes.Buffer
	a := &app{streams: streams{out: &out, err: &errOut}, quiet: true}
	err := a.printReport(&sandboxer.Report{Destroyed: []string{"a"}, Stuck: []string{"b"}, Unknown: []string{"host"}, Orphans: []sandboxer.Found{{Handle: sandboxer.Handle{SandboxID: "c", Host: "host"}}}})
	if err != nil || out.String() != "a\nb\nc\n" || errOut.Len() > 0 {
		t.Errorf("%v: %q, %q", err, out.String(), errOut.String())
	}
}

// TestYAMLKeepsText: what reads like something else than text stays text.
func TestYAMLKeepsText(t *testing.T) {
	want := map[string]any{"a": "true", "b": "12", "c": "1.5e3", "d": "~", "e": "x: y", "f": "# no", "g": "line\nline\n", "h": "", "i": "- a", "j": " a", "k": "a ", "l": "0x1f", "m": "2026-01-01", "n": "ü"}
	document, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := writeYAML(&out, document); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := yaml.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s\n%s", diff, out.String())
	}
}

func TestColour(t *testing.T) {
	got := colour("ID  STATE  PROFILE\na   ready  failed.x\nb   lost   y\nfailure  host a\nplain\n")
	want := "ID  STATE  PROFILE\na   \x1b[32mready\x1b[0m  failed.x\nb   \x1b[31mlost\x1b[0m   y\n\x1b[31mfailure\x1b[0m  host a\nplain\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var out bytes.Buffer
	a := &app{streams: streams{out: &out}}
	if err := a.table("STATE", func(w io.Writer) { w.Write([]byte("ready\n")) }); err != nil || strings.Contains(out.String(), "\x1b") {
		t.Errorf("colour where there is no terminal: %q, %v", out.String(), err)
	}
}

// TestWatchOfNothing: that the last one vanished is a change like others.
func TestWatchOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 4500*time.Millisecond)
		defer cancel()
		var out, errOut bytes.Buffer
		a := &app{streams: streams{out: &out, err: &errOut}}
		lists := [][]sandboxer.Sandbox{{{ID: "aaaaaaaaaaaaaaaaaaaa", State: sandboxer.StateReady}}, {}, {}, {}, {}}
		shown := 0
		err := a.watch(ctx, time.Second, func() (string, error) {
			list := lists[shown]
			shown++
			return changes(list), a.printList(list)
		})
		lines := strings.Split(out.String(), "\n")
		if err != nil || errOut.Len() > 0 || len(lines) != 4 || !strings.HasPrefix(lines[1], "aaaa") || lines[2] != "no sandboxes" {
			t.Errorf("%v: %q, and on standard error %q", err, lines, errOut.String())
		}
	})
}

// TestWatch: off a terminal only changes are shown, and an interrupt is no error.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 4500*time.Millisecond)
		defer cancel()
		var out bytes.Buffer
		a := &app{streams: streams{out: &out}}
		states := []string{"requested", "requested", "ready", "ready", "ready"}
		shown := 0
		err := a.watch(ctx, time.Second, func() (string, error) {
			s := states[shown]
			shown++
			_, err := a.out.Write([]byte(s + "\n"))
			return s, err
		})
		if err != nil || shown != len(states) || out.String() != "requested\nready\n" {
			t.Errorf("%d times, %v: %q", shown, err, out.String())
		}
	})
}

// TestEveryCommandHasAnExample: in its help, one that calls it.
func TestEveryCommandHasAnExample(t *testing.T) {
	seen := 0
	var check func(*cobra.Command)
	check = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			check(sub)
		}
		if cmd.Hidden {
			return
		}
		seen++
		if _, examples, _ := strings.Cut(cmd.UsageString(), "Examples:\n"); !strings.Contains(examples, "  "+cmd.CommandPath()) && !strings.Contains(examples, "("+cmd.CommandPath()) {
			t.Errorf("the help of %s has no example that calls it", cmd.CommandPath())
		}
	}
	check(new(app).command())
	if seen < 25 {
		t.Errorf("found only %d commands", seen)
	}
}

func TestReferenceIsGenerated(t *testing.T) {
	var out bytes.Buffer
	a := new(app)
	if err := writeReference(&out, a.command()); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(out.String(), string(page)); diff != "" {
		t.Errorf("go generate ./... was not run (-want +got):\n%s", diff)
	}
}
