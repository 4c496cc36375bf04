package relay_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/compose/internal/relay"
)

// An address nobody has stays silent or is unreachable; a port nobody listens
// on is reached nevertheless.
func TestProbe(t *testing.T) {
	s := newSite(t)
	open, refused, nobody := netip.AddrPortFrom(s.addr, 8080), netip.AddrPortFrom(s.addr, 9), netip.MustParseAddrPort("192.0.2.1:80")
	got, err := relay.Probe(t.Context(), s.Client, s.relay, 300*time.Millisecond, []netip.AddrPort{open, refused, nobody})
	if err != nil {
		t.Fatal(err)
	}
	if got[open] != relay.Open || got[refused] != relay.Refused || got[nobody].Reached() {
		t.Errorf("found %v", got)
	}
}
