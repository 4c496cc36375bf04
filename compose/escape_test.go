//go:build linux

package compose_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/repotest"
)

var update = flag.Bool("update", false, "write the tables of docs/security.md that tests produce")

// An escape is one line of a table: what is tried, and how, from inside.
type escape struct {
	what  string
	tries func(p *place) []attempt
}

type attempt struct{ Kind, Where, Token string }

// A place is what an attempt has to know of where it is made.
type place struct {
	bridges, others, links []string // addresses of the host: on its bridges, elsewhere, of IPv6 on the link
	neighbour, named       string   // another sandbox's container
}

func each(kinds string, port int, addresses ...string) (all []attempt) {
	for _, a := range addresses {
		for _, kind := range strings.Fields(kinds) {
			all = append(all, attempt{Kind: kind, Where: net.JoinHostPort(a, fmt.Sprint(port))})
		}
	}
	return all
}

func tries(kinds string, wheres ...string) func(*place) []attempt {
	return func(*place) (all []attempt) {
		for _, where := range wheres {
			for _, kind := range strings.Fields(kinds) {
				all = append(all, attempt{Kind: kind, Where: where})
			}
		}
		return all
	}
}

var outwards = []escape{
	{"a server outside that the profile lists", tries("tcp proxy", listedServer)},
	{"a server outside that it does not list", tries("tcp udp proxy", otherServer)},
	{"a ping of a server outside", tries("ping", "203.0.113.81")},
	{"a name outside, asked of the container's own resolver", tries("leak", "")},
	{"a name outside, asked of a resolver outside over UDP and TCP", tries("dns-udp dns-tcp proxy", outsideResolver)},
	{"a name outside, asked of the resolver on the host", func(p *place) []attempt {
		return each("dns-udp dns-tcp proxy", 53, slices.Concat(p.others, p.bridges)...)
	}},
	{"a name outside, asked of the proxy", tries("proxy", "TOKEN.outside.example:80")},
	{"the same below a wildcard that the profile lists", tries("proxy", "TOKEN.wild.example:80")},
	{"services of the host, at the addresses of its bridges", func(p *place) []attempt { return each("tcp udp proxy", 7777, p.bridges...) }},
	{"services of the host, at its other addresses", func(p *place) []attempt { return each("tcp udp proxy", 7777, p.others...) }},
	{"services of the host, over IPv6 on the link", func(p *place) []attempt { return each("tcp udp", 7777, p.links...) }},
	{"datagrams to the host past the routing table (`SO_BINDTODEVICE`)", func(p *place) []attempt {
		return each("unrouted", 7777, slices.Concat(p.others, p.bridges, []string{"255.255.255.255", "224.0.0.1"})...)
	}},
	{"the metadata address", tries("tcp proxy", metadataServer)},
	{"another sandbox, by address", func(p *place) []attempt { return each("tcp udp proxy unrouted", 8080, p.neighbour) }},
	{"another sandbox, by name", func(p *place) []attempt { return tries("name", p.named)(p) }},
	{"forged packets (raw and packet sockets)", tries("socket", "")},
}

var inwards = []escape{
	{"the engine's socket", tries("unix", "/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "@docker")},
	{"processes of the host", tries("process", "")},
	{"`/proc/sysrq-trigger`", tries("write", "/proc/sysrq-trigger")},
	{"`core_pattern` and other settings of the kernel", tries("write", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/overcommit_memory", "/proc/sys/net/ipv4/ip_forward", "/sys/kernel/uevent_helper", "/sys/power/state")},
	{"memory and log of the kernel (`kcore`, `/dev/mem`, `kmsg`)", tries("read", "/proc/kcore", "/dev/mem", "/dev/kmsg", "/proc/kmsg", "/proc/keys", "/proc/timer_list")},
	{"mounting a file system", tries("mount", "")},
	{"a user namespace, and mounting in it", tries("namespace", "")},
	{"`release_agent` of a cgroup", tries("release-agent", "")},
	{"making and opening the node of a disk", tries("device", "")},
	{"opening a file of the host by its handle", tries("handle", "")},
	{"a module, another kernel, a BPF program", tries("load", "")},
	{"root's rights from a setuid program", tries("setuid", "")},
	{"a fork bomb", tries("processes", "")},
	{"filling memory", tries("memory", "")},
	{"filling `/dev/shm`", tries("disk", "/dev/shm")},
	{"filling a tmpfs of the file", tries("disk", "/scratch")},
	{"filling `/`", tries("disk", "")},
	{"filling a volume", tries("disk", "/volume")},
	{"filling the upload through a bind mount", tries("disk", "/upload")},
}

// TestEscapes tries to get out of sandboxes of each egress, on a host that
// hardening has not touched and on one that it has.
func TestEscapes(t *testing.T) {
	small := func(egress sandboxer.Egress) sandboxer.Profile {
		return profileWith(t, "profile.escape-"+string(egress), func(p *sandboxer.Profile) {
			p.Network = sandboxer.Network{Egress: egress}
			if egress == sandboxer.EgressAllowlist {
				p.Network.Allow = []string{listedServer, "*.wild.example:80"}
			}
			p.Resources.Memory, p.Resources.PIDs = 128<<20, 100
		})
	}
	strict := func(egress sandboxer.Egress) sandboxer.Profile {
		p := small(egress)
		p.ID, p.Require = "profile.escape-hardened-"+string(egress), []string{"network.host", "network.metadata", "network.neighbours"}
		return p
	}
	m := newMachine(t, small(sandboxer.EgressDeny), small(sandboxer.EgressAllowlist), small(sandboxer.EgressAllow), strict(sandboxer.EgressDeny), strict(sandboxer.EgressAllow))
	importProgram(t, m.escape, "sandboxer-test/escape", `["/program", "serve"]`)
	neighbour := m.start(t, "profile.escape-allow")
	saw := map[string][]string{}
	var inside []string
	for _, column := range []string{"deny", "allowlist", "allow", "hardened-deny", "hardened-allow"} {
		if column == "hardened-deny" {
			// Their profiles are refused where a rule is not in force, or does not hold.
			if err := m.ext.Harden(t.Context(), m.rig.host.Name); err != nil {
				t.Fatal(err)
			}
		}
		box := m.start(t, "profile.escape-"+column)
		saw[column] = m.try(t, box, m.place(t, neighbour.ID), outwards)
		if column == "deny" {
			for i := range inwards {
				inside = append(inside, m.try(t, box, &place{}, inwards[i:i+1])...)
			}
		}
		m.destroy(t, box.ID)
	}
	var b strings.Builder
	b.WriteString("| From inside | `deny` | `allowlist` | `allow` | `deny`, hardened host | `allow`, hardened host |\n|---|---|---|---|---|---|\n")
	for i, e := range outwards {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", e.what, saw["deny"][i], saw["allowlist"][i], saw["allow"][i], saw["hardened-deny"][i], saw["hardened-allow"][i])
	}
	b.WriteString("\n| From inside, `isolation: container` | Seen |\n|---|---|\n")
	for i, e := range inwards {
		fmt.Fprintf(&b, "| %s | %s |\n", e.what, inside[i])
	}
	assertBlock(t, "../docs/security.md", "escapes", b.String())
}

// start creates a sandbox of the program, with what a file may ask for.
func (m *machine) start(t *testing.T, profile string) *sandboxer.Sandbox {
	t.Helper()
	req := request(repotest.New(t, map[string]string{"compose.yaml": `
services:
  neighbour:
    image: sandboxer-test/escape
    container_name: the-neighbour
    volumes: ["volume:/volume", "./data:/upload"]
    tmpfs: [/scratch, /tmp]
volumes: {volume: {}}
`, "data/.keep": ""}))
	req.Profile = profile
	return m.create(t, req)
}

// place looks at the host: a sandbox's networks come and go.
func (m *machine) place(t *testing.T, neighbour string) *place {
	t.Helper()
	p := &place{named: "sbx-" + neighbour + "-neighbour-1"}
	p.neighbour = strings.TrimSpace(dockerDo(t, "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", p.named))
	for line := range strings.Lines(m.do(t, false, "ip", "-o", "address")) {
		f := strings.Fields(line)
		address, _, _ := strings.Cut(f[3], "/")
		switch {
		case f[1] == "lo":
		case f[2] == "inet6":
			p.links = append(p.links, address+"%eth0")
		case f[1] == "docker0" || strings.HasPrefix(f[1], "sbx"):
			p.bridges = append(p.bridges, address)
		default:
			p.others = append(p.others, address)
		}
	}
	if len(p.bridges) < 2 || len(p.others) == 0 || p.neighbour == "" {
		t.Fatalf("the host has too little to try: %+v", p)
	}
	return p
}

// try has a sandbox make the attempts, and says of each line the most that
// came of one of them.
func (m *machine) try(t *testing.T, box *sandboxer.Sandbox, p *place, escapes []escape) []string {
	t.Helper()
	var all []attempt
	var line []int
	for i, e := range escapes {
		for _, a := range e.tries(p) {
			a.Token = fmt.Sprintf("t%s%d", strings.ToLower(box.ID[:12]), len(all))
			all, line = append(all, a), append(line, i)
		}
	}
	body, _ := json.Marshal(all)
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return m.Dial(ctx, box.ID, "neighbour", 8080)
	}}}
	answer, err := client.Post("http://neighbour/try", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var said []string
	if err := json.NewDecoder(answer.Body).Decode(&said); err != nil || len(said) != len(all) {
		t.Fatalf("%d of %d attempts were told of: %v", len(said), len(all), err)
	}
	cells := make([]string, len(escapes))
	for i, a := range all {
		word, _, _ := strings.Cut(said[i], ": ")
		if word == "closed" && (m.outside.saw(a.Token) || m.host.saw(a.Token)) {
			word = "arrives, unanswered"
		}
		t.Logf("%s: %s %s: %s: %s", box.Profile.ID, a.Kind, a.Where, word, said[i])
		if rank(word) > rank(cells[line[i]]) {
			cells[line[i]] = word
		}
	}
	return cells
}

// rank orders what may come of an attempt; what is not known is the worst.
func rank(word string) int {
	i := slices.Index([]string{"", "closed", "bounded", "arrives, unanswered", "not bounded", "open"}, word)
	if i < 0 {
		return 100
	}
	return i
}

// assertBlock compares a part of a document, between two comments, with what
// was seen, or writes it there.
func assertBlock(t *testing.T, path, name, want string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- begin "+name+" -->\n", "<!-- end "+name+" -->"
	before, rest, found := strings.Cut(string(text), begin)
	got, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no block %s", path, name)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("%s says (-), seen (+); -update writes what was seen:\n%s", path, diff)
	}
}
