package admission

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"github.com/sand-boxer/sandboxer"
)

func gvisorPlan(t *testing.T, egress sandboxer.Egress, text string) *Plan {
	t.Helper()
	policy := Policy{Isolation: sandboxer.IsolationGVisor, Egress: egress}
	plan, a, err := Check(t.Context(), Request{Tree: oneFile(text), ID: testID, Policy: policy})
	if err != nil || plan == nil {
		t.Fatalf("%v %v", a.Violations, err)
	}
	return plan
}

func gvisorPlace(p *Plan) Placement {
	place := placeOf(p)
	place.Runtime, place.Resolvers = "runsc", []netip.Addr{netip.MustParseAddr("192.0.2.53")}
	return place
}

const neighbours = `
services:
  web:
    image: web
    networks: {front: {aliases: [www]}, back: {}}
    links: ["db:database"]
    extra_hosts: ["cache:192.0.2.9", "legacy:192.0.2.10"]
  db: {image: db, container_name: the-db, networks: [back]}
  cache: {image: cache, networks: {back: {aliases: [shared]}}}
  other: {image: other, networks: {back: {aliases: [shared]}, front: {}}}
  alone: {image: alone, network_mode: none}
networks: {front: {}, back: {}}
`

// Every name that the engine would resolve for a service is in its own file,
// and no name of a network that it is not on.
func TestUnderGVisorNamesAreFixed(t *testing.T) {
	plan := gvisorPlan(t, sandboxer.EgressDeny, neighbours)
	text, err := plan.Render(gvisorPlace(plan))
	if err != nil {
		t.Fatal(err)
	}
	var got canonicalFile
	if err := yaml.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"web": {"cache:192.0.2.9", "database:10.201.0.3", "db:10.201.0.3", "legacy:192.0.2.10", "other:10.201.0.4", "shared:10.201.0.2", "shared:10.201.0.4",
			"the-db:10.201.0.3", "web:10.201.0.5", "www:10.201.1.3"},
		"db": {"cache:10.201.0.2", "db:10.201.0.3", "other:10.201.0.4", "shared:10.201.0.2", "shared:10.201.0.4", "the-db:10.201.0.3", "web:10.201.0.5"},
		"other": {"cache:10.201.0.2", "db:10.201.0.3", "other:10.201.0.4", "shared:10.201.0.2", "shared:10.201.0.4", "the-db:10.201.0.3", "web:10.201.0.5",
			"www:10.201.1.3"},
		"alone": nil,
	} {
		if diff := cmp.Diff(want, got.Services[name].ExtraHosts); diff != "" {
			t.Errorf("%s knows (-want +got):\n%s", name, diff)
		}
		if runtime := got.Services[name].Runtime; runtime != "runsc" {
			t.Errorf("%s runs under %q", name, runtime)
		}
	}
	want := canonicalSubnet{Subnet: "10.201.0.0/28", Gateway: "10.201.0.1", IPRange: "10.201.0.12/30"}
	if diff := cmp.Diff(want, got.Networks["back"].IPAM.Config[0]); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	if web := got.Services["web"].Networks; web["back"].IPv4Address != "10.201.0.5" || web["front"].IPv4Address != "10.201.1.3" {
		t.Errorf("web is at %+v", web)
	}
}

func TestUnderGVisorResolversAreGiven(t *testing.T) {
	plan := gvisorPlan(t, sandboxer.EgressAllow, `
services:
  web: {image: web}
  own: {image: own, dns: [192.0.2.1], dns_search: [a.example, b.example], dns_opt: ["ndots:2"]}
  mounted: {image: x, volumes: ["./compose.yaml:/etc/resolv.conf"]}
  alone: {image: alone, network_mode: none}
`)
	place := gvisorPlace(plan)
	text, err := plan.Render(place)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"source: \"/srv/s/pins/web.resolv.conf\"", "source: \"/srv/s/pins/own.resolv.conf\""} {
		if strings.Count(string(text), want) != 1 {
			t.Errorf("lacks %s:\n%s", want, text)
		}
	}
	want := []Pin{
		{Name: "own.resolv.conf", Data: []byte("nameserver 192.0.2.1\nsearch a.example b.example\noptions ndots:2\n"), Mode: 0o644},
		{Name: "web.resolv.conf", Data: []byte("nameserver 192.0.2.53\n"), Mode: 0o644},
	}
	if diff := cmp.Diff(want, plan.ResolverPins(place)); diff != "" {
		t.Errorf("pins (-want +got):\n%s", diff)
	}
}

func TestPlacementsThatCannotFixAddresses(t *testing.T) {
	plan := gvisorPlan(t, sandboxer.EgressDeny, neighbours)
	for want, change := range map[string]func(*Placement){
		"no runtime for isolation gvisor":                                   func(p *Placement) { p.Runtime = "" },
		"subnet 10.201.0.0/29 of network back has no room for 4 containers": func(p *Placement) { p.Subnets["back"] = netip.MustParsePrefix("10.201.0.0/29") },
	} {
		place := gvisorPlace(plan)
		change(&place)
		if _, err := plan.Render(place); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// What would start under gVisor and not work is refused, and so is what would
// run outside it.
func TestRefusedUnderGVisor(t *testing.T) {
	tests := map[string]struct{ file, rule, says string }{
		"several containers":   {"services: {a: {image: x, scale: 2}}", "GVISOR", "services.a.scale asks for 2 containers"},
		"replicas":             {"services: {a: {image: x, deploy: {replicas: 3}}}", "GVISOR", "services.a.deploy asks for 3 containers"},
		"another's network":    {"services: {a: {image: x}, b: {image: x, network_mode: 'service:a'}}", "GVISOR", "services.b.network_mode is service:a"},
		"another's processes":  {"services: {a: {image: x}, b: {image: x, pid: 'service:a'}}", "GVISOR", "services.b.pid is service:a"},
		"another's memory":     {"services: {a: {image: x, ipc: shareable}, b: {image: x, ipc: 'service:a'}}", "GVISOR", "services.b.ipc is service:a"},
		"another runtime":      {"services: {a: {image: x, runtime: kata}}", "RUNTIME", "services.a.runtime"},
		"a build that runs":    {"services: {a: {build: {context: ., dockerfile_inline: \"FROM scratch\\nRUN evil\"}}}", "BUILD-ISOLATION", `"RUN evil"`},
		"a base image's hooks": {"services: {a: {build: {context: ., dockerfile_inline: FROM alpine}}}", "BUILD-ISOLATION", `"FROM alpine"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, isolation := range []sandboxer.Isolation{sandboxer.IsolationGVisor, sandboxer.IsolationContainer} {
				_, a, err := Check(t.Context(), Request{Tree: oneFile(tt.file), ID: testID, Policy: Policy{Isolation: isolation}})
				if err != nil {
					t.Fatal(err)
				}
				if isolation == sandboxer.IsolationContainer && tt.rule != "RUNTIME" {
					if a.Verdict == sandboxer.Deny {
						t.Errorf("with isolation container: %v", a.Violations)
					}
				} else if len(a.Violations) != 1 || a.Violations[0].Rule != tt.rule || !strings.Contains(a.Violations[0].Path+" "+a.Violations[0].Message, tt.says) {
					t.Errorf("violations %+v, want one of %s that says %s", a.Violations, tt.rule, tt.says)
				}
			}
		})
	}
}

func TestAProfileMayLetBuildsRunOutsideGVisor(t *testing.T) {
	policy := Policy{Isolation: sandboxer.IsolationGVisor, Allow: []string{"BUILD-ISOLATION"}}
	_, a, err := Check(t.Context(), Request{Tree: oneFile(`services: {a: {build: {context: ., dockerfile_inline: "FROM alpine\nRUN make"}}}`), ID: testID, Policy: policy})
	if err != nil || a.Verdict == sandboxer.Deny {
		t.Errorf("%+v %v", a, err)
	}
}

func TestRunsPrograms(t *testing.T) {
	tests := map[string]struct{ dockerfile, line string }{
		"copies only":                       {"FROM scratch\nCOPY a /a\nADD b /b\nENV X=1 \\\n  RUN=2\nARG Y\n# RUN x\nENTRYPOINT [\"/a\"]\n", ""},
		"stages of its own":                 {"FROM --platform=linux/amd64 scratch AS one\nFROM One\nCOPY --from=one / /\n", ""},
		"empty":                             {"", ""},
		"RUN":                               {"FROM scratch\nRUN [\"/a\"]\n", `RUN ["/a"]`},
		"run":                               {"from scratch\n  run x\n", "run x"},
		"a base image":                      {"FROM scratch\nFROM alpine:3\n", "FROM alpine:3"},
		"a stage from elsewhere":            {"FROM alpine AS scratch\n", "FROM alpine AS scratch"},
		"a variable":                        {"ARG B=alpine\nFROM $B\n", "FROM $B"},
		"triggers":                          {"FROM scratch\nONBUILD RUN x\n", "ONBUILD RUN x"},
		"another frontend":                  {"# Syntax = example.com/evil\nFROM scratch\n", "# Syntax = example.com/evil"},
		"another escape":                    {"# escape=`\nFROM scratch\nENV A=\\\nRUN x\n", "# escape=`"},
		"after a continued line":            {"FROM scratch\nENV A=1 \\\n  B=2\nRUN x\n", "RUN x"},
		"a comment within a continued line": {"FROM scratch\nENV A=1 \\\n# c\n  B=2\nRUN x\n", "RUN x"},
		"a here-document that hides a line": {"FROM scratch\nCOPY <<# /x\nENV a \\\n#\nRUN x\n", "COPY <<# /x"},
	}
	for name, tt := range tests {
		if got := runsPrograms(tt.dockerfile); got != tt.line {
			t.Errorf("%s: got %q, want %q", name, got, tt.line)
		}
	}
}
