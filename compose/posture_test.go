package compose_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/repotest"
	"github.com/sand-boxer/sandboxer/profiles"
)

// profileWith is the reference profile, changed and under another id.
func profileWith(t *testing.T, id string, change func(*sandboxer.Profile)) sandboxer.Profile {
	t.Helper()
	known, err := profiles.Load()
	if err != nil {
		t.Fatal(err)
	}
	p := known[0]
	p.ID = id
	change(&p)
	return p
}

// probe has the service web of a sandbox try the targets.
func (r *rig) probe(t *testing.T, id string, targets ...string) []string {
	t.Helper()
	query := url.Values{"target": targets}
	return strings.Split(strings.TrimSpace(get(t, r.Client, id, "web", 8080, "/probe?"+query.Encode())), "\n")
}

func assertControls(t *testing.T, box *sandboxer.Sandbox, want map[string]sandboxer.ControlLevel) {
	t.Helper()
	got := map[string]sandboxer.Control{}
	for _, c := range box.Controls {
		got[c.Name] = c
	}
	for name, level := range want {
		if got[name].Level != level {
			t.Errorf("control %s is %+v, want %s", name, got[name], level)
		}
	}
}

// hostServer listens where containers with a way out can reach it: on the
// host's address of the engine's default network.
func hostServer(t *testing.T) (address string) {
	t.Helper()
	out, err := exec.Command("docker", "network", "inspect", "bridge", "--format", `{{index .Options "com.docker.network.bridge.name"}}`).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	bridge, err := net.InterfaceByName(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	addresses, err := bridge.Addrs()
	if err != nil || len(addresses) == 0 {
		t.Fatalf("%s has no address: %v", bridge.Name, err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(addresses[0].(*net.IPNet).IP.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}

// TestEgressIsDenied looks from inside: nothing outside is reached, no name
// outside resolves, and neither does the host answer; the neighbour service does.
func TestEgressIsDenied(t *testing.T) {
	t.Parallel()
	r := localRig(t)
	repo := repotest.New(t, map[string]string{"compose.yaml": `
services:
  web: {build: ., command: [serve, "8080", hello]}
  neighbour: {build: ., command: [serve, "9090", hi]}
`})
	box := r.create(t, request(repo))
	probe := func(targets ...string) []string { return r.probe(t, box.ID, targets...) }
	neighbour := probe("tcp:neighbour:9090")
	for deadline := time.Now().Add(30 * time.Second); !strings.HasSuffix(neighbour[0], " open"); neighbour = probe("tcp:neighbour:9090") {
		if time.Now().After(deadline) { // it has no health check, so it may begin to listen after it counts as ready
			t.Fatalf("from inside: %s", neighbour[0])
		}
	}
	for _, line := range probe("tcp:192.0.2.1:80", "tcp:1.1.1.1:53", "dns:example.com", "dns:host.docker.internal", "tcp:172.17.0.1:22", "tcp:"+gatewayOf(t, box.ID)+":22", "tcp:169.254.169.254:80") {
		if !strings.Contains(line, " closed: ") {
			t.Errorf("from inside: %s", line)
		}
	}
	assertControls(t, box, map[string]sandboxer.ControlLevel{
		"network.egress": sandboxer.Enforced, "network.host": sandboxer.Advisory, "network.metadata": sandboxer.Enforced,
		"network.neighbours": sandboxer.Enforced, "network.dns": sandboxer.Enforced, "network.builds": sandboxer.Advisory,
	})
}

func gatewayOf(t *testing.T, id string) string {
	t.Helper()
	out, err := exec.Command("docker", "network", "inspect", "sbx-"+id+"_default", "--format", "{{(index .IPAM.Config 0).Subnet}}").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	subnet, _, _ := strings.Cut(strings.TrimSpace(string(out)), "/")
	return subnet[:strings.LastIndex(subnet, ".")+1] + fmt.Sprint(lastOctet(subnet)+1)
}

func lastOctet(ip string) int {
	n := 0
	_, _ = fmt.Sscan(ip[strings.LastIndex(ip, ".")+1:], &n)
	return n
}

// TestEgressIsAllowlisted: what is on the list is reached through the proxy,
// and nothing else is, with or without it.
func TestEgressIsAllowlisted(t *testing.T) {
	t.Parallel()
	listed, other := hostServer(t), hostServer(t)
	host, port, _ := net.SplitHostPort(listed)
	r := localRig(t, profileWith(t, "profile.listed", func(p *sandboxer.Profile) {
		p.Network = sandboxer.Network{Egress: sandboxer.EgressAllowlist, Allow: []string{host + ":" + port, "*.example.invalid"}}
		p.Require = []string{"network.egress", "network.metadata", "network.dns"}
	}))
	repo := repotest.New(t, map[string]string{"compose.yaml": `
services:
  web: {build: ., command: [serve, "8080", hello], depends_on: [neighbour]}
  neighbour: {build: ., command: [serve, "9090", hi]}
  shares: {build: ., command: [serve, "7070", hi], network_mode: "service:web"}
  own: {build: ., command: [serve, "9090", hi], environment: {HTTP_PROXY: "http://mine:1", no_proxy: mine}}
  inner: {build: ., command: [serve, "9090", hi], networks: [back]}
networks: {back: {internal: true}}
`})
	req := request(repo)
	req.Profile = "profile.listed"
	box := r.create(t, req)
	assertControls(t, box, map[string]sandboxer.ControlLevel{
		"network.egress": sandboxer.Enforced, "network.host": sandboxer.Advisory, "network.metadata": sandboxer.Enforced,
		"network.neighbours": sandboxer.Enforced, "network.dns": sandboxer.Enforced,
	})
	for target, want := range map[string]string{
		"get:http://" + listed + "/":          "open",
		"get:http://neighbour:9090/":          "open",
		"get:http://" + other + "/":           "403",
		"get:http://name.example.invalid/":    "502", // on the list, and not there
		"get:http://elsewhere.invalid/":       "403",
		"get:http://169.254.169.254/latest":   "403",
		"get:https://elsewhere.invalid/":      "Forbidden",
		"tcp:" + listed:                       "closed",
		"tcp:" + other:                        "closed",
		"dns:example.com":                     "closed",
		"tcp:" + gatewayOf(t, box.ID) + ":22": "closed",
	} {
		if got := r.probe(t, box.ID, target)[0]; !strings.Contains(got, want) {
			t.Errorf("from inside: %s, want %s", got, want)
		}
	}
	assertProxyEnvironment(t, r, box.ID)
	for _, s := range box.Reachability.Services {
		if strings.HasPrefix(s.Name, "sandboxer") {
			t.Errorf("the proxy is shown as a service: %+v", s)
		}
	}
}

func assertProxyEnvironment(t *testing.T, r *rig, id string) {
	t.Helper()
	env := func(service string, port int) string { return get(t, r.Client, id, service, port, "/env") }
	if got := env("shares", 7070); !strings.Contains(got, "HTTPS_PROXY=http://10.") {
		t.Errorf("a service that shares the network of another has the environment\n%s", got)
	}
	own := env("own", 9090)
	for _, want := range []string{"HTTP_PROXY=http://mine:1", "no_proxy=mine", "https_proxy=http://10."} {
		if !strings.Contains(own, want+"\n") && !strings.Contains(own, want) {
			t.Errorf("a service with a proxy of its own has the environment\n%s\nwant %s", own, want)
		}
	}
	if got := env("inner", 9090); strings.Contains(got, "PROXY=") {
		t.Errorf("a service on an internal network has the environment\n%s", got)
	}
}

// TestEgressIsAllowed: what is open is said to be open, and a profile that
// requires otherwise gets nothing.
func TestEgressIsAllowed(t *testing.T) {
	t.Parallel()
	open := profileWith(t, "profile.open", func(p *sandboxer.Profile) { p.Network = sandboxer.Network{Egress: sandboxer.EgressAllow} })
	strict := open
	strict.ID, strict.Require = "profile.strict", []string{"network.host"}
	r := localRig(t, open, strict)
	server := hostServer(t)
	repo := repotest.New(t, map[string]string{"compose.yaml": `
services:
  web: {build: ., command: [serve, "8080", hello]}
`})
	req := request(repo)
	req.Profile = "profile.open"
	box := r.create(t, req)
	if got := r.probe(t, box.ID, "get:http://"+server+"/")[0]; !strings.HasSuffix(got, " open") {
		t.Errorf("from inside: %s", got)
	}
	assertControls(t, box, map[string]sandboxer.ControlLevel{
		"network.egress": sandboxer.Enforced, "network.host": sandboxer.Unsupported, "network.neighbours": sandboxer.Advisory,
	})
	req.Profile = "profile.strict"
	box, err := r.Create(t.Context(), req)
	var missing *sandboxer.RequirementError
	if !errors.As(err, &missing) || !errors.Is(err, sandboxer.ErrUnsupported) || missing.Missing[0].Name != "network.host" {
		t.Errorf("create with what cannot be enforced: %v", err)
	}
	if box == nil || box.State != sandboxer.StateDestroyed {
		t.Errorf("what cannot be enforced left %+v", box)
	} else {
		r.assertNothing(t, box.ID)
	}
}
