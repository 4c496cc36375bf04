package host

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// inNamespace runs a script as the machine's shell would, in a network
// namespace that all scripts of the test share.
func inNamespace(t *testing.T, text string) (string, error) {
	t.Helper()
	cmd := exec.Command("unshare", "--net", "sh", "-s")
	cmd.Stdin = strings.NewReader("root=" + quote(t.TempDir()) + "\n" + text)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// requireRules skips a test where rules cannot be set, and fails it where that is required.
func requireRules(t *testing.T) {
	t.Helper()
	out, err := exec.Command("unshare", "--net", "sh", "-c", "PATH=$PATH:/usr/sbin:/sbin iptables -S INPUT").CombinedOutput()
	if err == nil {
		return
	}
	if os.Getenv("SANDBOXER_REQUIRE_ENGINE") == "1" {
		t.Fatalf("root and iptables are required: %v: %s", err, out)
	}
	t.Skipf("needs root and iptables: %v", err)
}

// firewallStep is what one call of SetFirewall runs.
func firewallStep(want Firewall) string {
	return "want=" + string(want) + "\n(\n" + script("rules", "firewall") + ")\n"
}

func TestHardeningComesAndGoes(t *testing.T) {
	requireRules(t)
	state := "(\n" + script("rules") + "firewall_state\n)\n"
	both := "PATH=$PATH:/usr/sbin:/sbin\niptables -A INPUT -p tcp --dport 1 -j DROP\niptables -N DOCKER-USER\n"
	out, err := inNamespace(t, both+state+firewallStep(FirewallHardened)+firewallStep(FirewallHardened)+state+"iptables -S\n"+
		firewallStep(FirewallOpen)+state+firewallStep(FirewallOpen)+"iptables -S\nip6tables -S\n")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	before, rest, _ := strings.Cut(out, "hardened\n")
	hardened, after, _ := strings.Cut(rest, "\nopen\n")
	if before != "open\n" {
		t.Errorf("before it the host is %q", before)
	}
	for _, rule := range []string{
		"-A INPUT -i sbx+ -j SANDBOXER-IN\n-A INPUT -p tcp", "-A DOCKER-USER -i sbx+ -j SANDBOXER-OUT", "-A SANDBOXER-IN -i sbxh+ -j RETURN",
		"-A SANDBOXER-OUT -i sbxd+ ! -o sbxd+ -j REJECT", "-A SANDBOXER-OUT -d 169.254.0.0/16",
	} {
		if !strings.Contains(hardened, rule) {
			t.Errorf("hardened, the host lacks %q:\n%s", rule, hardened)
		}
	}
	if n := strings.Count(hardened, "-j SANDBOXER-IN"); n != 1 {
		t.Errorf("hardened twice, the chain is used %d times", n)
	}
	if strings.Contains(after, "SANDBOXER") || strings.Contains(after, "sbx") || !strings.Contains(after, "--dport 1") {
		t.Errorf("afterwards the host has\n%s", after)
	}
}
