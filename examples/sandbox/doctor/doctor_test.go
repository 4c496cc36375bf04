package doctor

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
)

// TestHosts: whatever is not well says what to do about it.
func TestHosts(t *testing.T) {
	status := func(change func(*sandboxer.HostStatus)) sandboxer.HostStatus {
		s := sandboxer.HostStatus{Host: sandboxer.Host{Name: "a", Address: "local:"}, Available: true, Facts: map[string]string{"firewall": "hardened"}}
		change(&s)
		return s
	}
	well := Finding{Subject: "host a", Level: OK, Detail: "local:, engine unknown, compose unknown, isolation none, firewall hardened, 0 sandboxes"}
	open := well
	open.Detail = "local:, engine unknown, compose unknown, isolation none, firewall open, 0 sandboxes"
	for _, tt := range []struct {
		name   string
		change func(*sandboxer.HostStatus)
		want   []Finding
	}{
		{"well", func(*sandboxer.HostStatus) {}, []Finding{well}},
		{"away", func(s *sandboxer.HostStatus) { s.Available, s.Reason, s.Hint = false, "no answer", "switch it on" },
			[]Finding{{"host a", Failure, "no answer", "switch it on"}}},
		{"a warning", func(s *sandboxer.HostStatus) { s.Warnings = []string{"runc is old\nupgrade it"} },
			[]Finding{well, {"host a", Warning, "runc is old", "upgrade it"}}},
		{"open", func(s *sandboxer.HostStatus) { s.Facts["firewall"] = "open" }, []Finding{open, {"host a", Warning,
			"its firewall is open: sandboxes whose egress is allowed reach its services and a cloud's metadata, others may send it broadcasts",
			"sandbox hosts harden a, as root of the host, after each boot"}}},
		{"cordoned", func(s *sandboxer.HostStatus) { s.Cordoned = true },
			[]Finding{well, {"host a", Warning, "is cordoned: it takes no new sandboxes", "sandbox hosts uncordon a"}}},
	} {
		var d Diagnosis
		d.AddHosts([]sandboxer.HostStatus{status(tt.change)})
		if diff := cmp.Diff(tt.want, d.Findings); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
