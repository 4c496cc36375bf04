package sandboxer_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
)

// edges is the life of a sandbox, written a second time.
const edges = `
requested     provisioning failed destroying
provisioning  ready failed lost destroying
ready         active failed lost destroying
active        ready failed lost destroying
failed        destroying
lost          ready active failed destroying
destroying    destroyed requested
destroyed
`

func TestTransitionTable(t *testing.T) {
	allowed := map[sandboxer.State][]sandboxer.State{}
	var order []sandboxer.State
	for line := range strings.Lines(strings.TrimSpace(edges)) {
		words := strings.Fields(line)
		from := sandboxer.State(words[0])
		order = append(order, from)
		for _, to := range words[1:] {
			allowed[from] = append(allowed[from], sandboxer.State(to))
		}
	}
	states := sandboxer.States()
	if !slices.Equal(slices.Sorted(slices.Values(order)), slices.Sorted(slices.Values(states))) {
		t.Fatalf("States are %v, the table here has %v", states, order)
	}
	for _, from := range states {
		if diff := cmp.Diff(allowed[from], from.Next()); diff != "" && len(allowed[from])+len(from.Next()) > 0 {
			t.Errorf("%s.Next (-want +got):\n%s", from, diff)
		}
		for _, to := range states {
			if got, want := from.CanTransition(to), slices.Contains(allowed[from], to); got != want {
				t.Errorf("%s to %s: %v, want %v", from, to, got, want)
			}
		}
		if from.Terminal() != (len(allowed[from]) == 0) {
			t.Errorf("%s: Terminal is %v", from, from.Terminal())
		}
	}
}

func TestDestroyingIsReachedFromEveryLivingState(t *testing.T) {
	for _, s := range sandboxer.States() {
		if !s.Terminal() && s != sandboxer.StateDestroying && !s.CanTransition(sandboxer.StateDestroying) {
			t.Errorf("%s cannot be destroyed", s)
		}
	}
}

func TestNextIsACopy(t *testing.T) {
	sandboxer.StateReady.Next()[0] = sandboxer.StateDestroyed
	if sandboxer.StateReady.CanTransition(sandboxer.StateDestroyed) {
		t.Error("changing what Next returned changed the table")
	}
}

func TestUnknownStateGoesNowhere(t *testing.T) {
	s := sandboxer.State("hibernating")
	if s.Terminal() || s.CanTransition(sandboxer.StateReady) || len(s.Next()) > 0 {
		t.Error("a state from a newer version must be tolerated: not terminal, no edges")
	}
}

func TestConsumer(t *testing.T) {
	whole := sandboxer.Consumer{Project: "wise-validator", ActorType: sandboxer.ActorAgent, Actor: "claims@host", Run: "run/42"}
	tests := map[string]struct {
		change func(*sandboxer.Consumer)
		want   string
	}{
		"whole":        {func(*sandboxer.Consumer) {}, ""},
		"without run":  {func(c *sandboxer.Consumer) { c.Run = "" }, ""},
		"no project":   {func(c *sandboxer.Consumer) { c.Project = "" }, "consumer.project: is required: say on whose account the sandbox exists"},
		"no actor":     {func(c *sandboxer.Consumer) { c.Actor = "" }, "consumer.actor: is required: say on whose account the sandbox exists"},
		"no type":      {func(c *sandboxer.Consumer) { c.ActorType = "" }, `consumer.actor_type: "" is not one of "adm" (a person administering), "agt" (an AI agent), "atm" (an automation)`},
		"unknown type": {func(c *sandboxer.Consumer) { c.ActorType = "bot" }, `consumer.actor_type: "bot" is not one of "adm" (a person administering), "agt" (an AI agent), "atm" (an automation)`},
		"odd run":      {func(c *sandboxer.Consumer) { c.Run = "a b" }, `consumer.run: "a b": only letters, digits and ._@:/+- are allowed, at most 128 of them`},
		"all at once": {func(c *sandboxer.Consumer) { *c = sandboxer.Consumer{ActorType: "x", Actor: "-"} },
			`consumer.project: is required: say on whose account the sandbox exists; consumer.actor: "-": only letters, digits and ._@:/+- are allowed, at most 128 of them; ` +
				`consumer.actor_type: "x" is not one of "adm" (a person administering), "agt" (an AI agent), "atm" (an automation)`},
	}
	for name, tt := range tests {
		c := whole
		tt.change(&c)
		err := c.Validate()
		if got := text(err); got != tt.want {
			t.Errorf("%s:\n got %q\nwant %q", name, got, tt.want)
		}
		if err != nil && !errors.Is(err, sandboxer.ErrInvalid) {
			t.Errorf("%s: %v does not match ErrInvalid", name, err)
		}
	}
	if got := whole.String(); got != "wise-validator/agt:claims@host#run/42" {
		t.Errorf("String is %q", got)
	}
	whole.Run = ""
	if got := whole.String(); got != "wise-validator/agt:claims@host" {
		t.Errorf("String without a run is %q", got)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
