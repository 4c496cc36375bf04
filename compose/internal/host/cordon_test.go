package host

import (
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
)

// TestACordonedHostTakesNothingNew: from no client, until it is uncordoned;
// what it has goes on and is recreated.
func TestACordonedHostTakesNothingNew(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, g *rig) {
		cordoned := func(want bool) {
			t.Helper()
			facts, err := g.another().Probe(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if facts.Cordoned != want {
				t.Errorf("the probe says cordoned: %v", facts.Cordoned)
			}
		}
		s := g.reserve(nil)
		newcomer := func() *sandbox {
			other := &sandbox{rig: g, id: newID(), tree: s.tree}
			t.Cleanup(other.destroy)
			return other
		}
		for range 2 { // doing it again changes nothing
			if err := g.SetCordoned(t.Context(), true); err != nil {
				t.Fatal(err)
			}
		}
		cordoned(true)
		other := newcomer()
		_, err := g.another().Reserve(t.Context(), other.reservation())
		assertIs(t, err, sandboxer.ErrUnavailable)
		if err == nil || !strings.Contains(err.Error(), "cordoned") {
			t.Errorf("error %v does not say why", err)
		}
		g.assertNothing(other.id)
		if _, err := g.Reserve(t.Context(), s.reservation()); err != nil {
			t.Errorf("what is there already: %v", err)
		}
		second := other.reservation()
		second.Generation = 2
		if _, err := g.Reserve(t.Context(), second); err != nil {
			t.Errorf("one that is recreated: %v", err)
		}
		for range 2 {
			if err := g.SetCordoned(t.Context(), false); err != nil {
				t.Fatal(err)
			}
		}
		cordoned(false)
		if _, err := g.Reserve(t.Context(), newcomer().reservation()); err != nil {
			t.Errorf("after it was uncordoned: %v", err)
		}
	})
}
