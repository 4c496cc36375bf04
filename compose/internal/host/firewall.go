package host

import (
	"context"

	"github.com/sand-boxer/sandboxer"
)

// Firewall says whether the host's static rules for interfaces of sandboxes
// are in force, see scripts/rules.sh.
type Firewall string

// The states. An account that is not root cannot look.
const (
	FirewallHardened Firewall = "hardened"
	FirewallOpen     Firewall = "open"
	FirewallUnknown  Firewall = "unknown"
)

// SetFirewall installs the rules, or removes all of them, and looks whether
// that is so. It needs root on the machine. Doing it again changes nothing.
func (m *Machine) SetFirewall(ctx context.Context, want Firewall) error {
	_, err := m.run(ctx, step{names: []string{"rules", "firewall"}, vars: map[string]string{"want": string(want)}})
	if isExit(err, exitFirewall) {
		return sandboxer.WithHint(err, "connect as root, or run the command on the host as root")
	}
	m.forget()
	return err
}
