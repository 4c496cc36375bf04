package admission

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sand-boxer/sandboxer/compose/internal/workspace"
	"go.yaml.in/yaml/v4"
)

// oneFile is a tree that holds a compose file and nothing else.
type oneFile string

func (f oneFile) Lookup(p string) (workspace.Entry, bool) {
	return workspace.Entry{Path: p, Kind: workspace.File, Size: int64(len(f))}, p == "compose.yaml"
}

func (f oneFile) ReadFile(string, int64) ([]byte, error) { return []byte(f), nil }

const testID = "abcdefghij0123456789"

func planOf(t testing.TB, text string) *Plan {
	t.Helper()
	plan, a, err := Check(t.Context(), Request{Tree: oneFile(text), ID: testID, Generation: 3, Policy: Policy{Memory: 1 << 30, CPUs: 2, PIDs: 100}})
	if err != nil || plan == nil {
		t.Fatalf("%v %v", a.Violations, err)
	}
	return plan
}

func placeOf(p *Plan) Placement {
	place := Placement{Project: "sbx-" + testID, Workdir: "/srv/s/src", PinDir: "/srv/s/pins", Labels: map[string]string{"dev.sandboxer.id": testID}, Subnets: map[string]netip.Prefix{}}
	for i, n := range p.Networks {
		place.Subnets[n.Key] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 201, byte(i), 0}), 28)
	}
	return place
}

const everything = `
services:
  a:
    image: alpine
    command: ["echo", "$$HOME", "$$$$x"]
    environment: {A: "$${SSH_CONNECTION}", B: "no"}
    volumes: ["data:/data", "./new:/new"]
    tmpfs: ["/tmp:size=1m,mode=1777"]
    networks: [front, back]
    secrets: [s]
    build: {context: ., dockerfile_inline: "FROM scratch", args: {X: "1"}, secrets: [s]}
    healthcheck: {test: ["CMD-SHELL", "test $$A = b"], interval: 2s}
    post_start: [{command: ["true"], environment: {Z: "1"}}]
    depends_on: {b: {condition: service_healthy, restart: true}}
    restart: always
  b:
    image: redis:7
    networks: [back]
    extra_hosts: ["h:10.0.0.1"]
    links: [c]
  c: {image: redis:7, network_mode: none, expose: ["80"]}
networks: {front: {}, back: {internal: true}}
volumes: {data: {driver_opts: {type: tmpfs, device: tmpfs, o: "size=1m"}}}
secrets: {s: {environment: COMPOSE_PROJECT_NAME}}
configs: {}
`

// TestRenderIsDeterministic: the same bytes, also from several goroutines.
func TestRenderIsDeterministic(t *testing.T) {
	text := strings.Replace(everything, "secrets: {s: {environment: COMPOSE_PROJECT_NAME}}", "", 1)
	text = strings.Replace(strings.Replace(text, "    secrets: [s]\n", "", 1), ", secrets: [s]", "", 1)
	plan := planOf(t, text)
	want, err := plan.Render(placeOf(plan))
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			again := planOf(t, text)
			for _, p := range []*Plan{plan, again} {
				if got, err := p.Render(placeOf(p)); err != nil || !bytes.Equal(want, got) {
					t.Errorf("differs: %v\n%s", err, cmp.Diff(string(want), string(got)))
				}
			}
		})
	}
	group.Wait()
}

// TestVerifyNotices: every way a canonical file could be wrong is seen before it leaves.
func TestVerifyNotices(t *testing.T) {
	text := strings.Replace(everything, "secrets: {s: {environment: COMPOSE_PROJECT_NAME}}", "", 1)
	text = strings.Replace(strings.Replace(text, "    secrets: [s]\n", "", 1), ", secrets: [s]", "", 1)
	plan := planOf(t, text)
	place := placeOf(plan)
	good, err := plan.render(place)
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.verify(good, place); err != nil {
		t.Fatalf("refuses its own: %v", err)
	}
	for name, change := range map[string][2]string{
		"a $ lost":              {"$${SSH_CONNECTION}", "${SSH_CONNECTION}"},
		"a $ lost in a word":    {"$$HOME", "$HOME"},
		"not internal":          {"internal: true", "internal: false"},
		"another name":          {"name: \"sbx-" + testID + "_front\"", "name: \"victim\""},
		"another project":       {"name: \"sbx-" + testID + "\"", "name: \"victim\""},
		"a bind outside":        {"/srv/s/src/new", "/etc"},
		"a bind of a sibling":   {"/srv/s/src/new", "/srv/s/srcs"},
		"a bind that climbs":    {"/srv/s/src/new", "/srv/s/src/../../.."},
		"host path created":     {"create_host_path: false", "create_host_path: true"},
		"privileged":            {"read_only: true", "privileged: true"},
		"an attribute more":     {"    image: \"redis:7\"\n", "    image: \"redis:7\"\n    privileged: true\n"},
		"a port":                {"    image: \"redis:7\"\n", "    image: \"redis:7\"\n    ports: [\"80:80\"]\n"},
		"a container name":      {"    image: \"redis:7\"\n", "    image: \"redis:7\"\n    container_name: victim\n"},
		"a capability":          {"- \"MKNOD\"", "- \"CHOWN\""},
		"no-new-privileges":     {"no-new-privileges:true", "no-new-privileges:false"},
		"more memory":           {"mem_limit: 1073741824", "mem_limit: 2147483648"},
		"another log":           {"json-file", "syslog"},
		"a label less":          {"dev.sandboxer.id", "dev.sandboxer.di"},
		"a resolver":            {"127.0.0.1", "9.9.9.9"},
		"restart":               {"on-failure:5", "always"},
		"a Dockerfile outside":  {"/srv/s/pins/0001", "/srv/s/ctl/0001"},
		"the cache of another":  {"BUILDKIT_CACHE_MOUNT_NS\": \"" + testID, "BUILDKIT_CACHE_MOUNT_NS\": \"other"},
		"another's image":       {"sandboxer.local/" + testID, "sandboxer.local/other"},
		"a driver option":       {"inhibit_ipv4", "enable_icc"},
		"a subnet":              {"10.201.0.0/28", "10.202.0.0/28"},
		"a volume's options":    {"device: \"tmpfs\"", "device: \"/dev/sda\""},
		"a word that is a bool": {"\"no\"", "no"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(string(good), change[0], change[1], 1)
			if name == "privileged" {
				bad = strings.Replace(string(good), "    image:", "    privileged: true\n    image:", 1)
			}
			if bad == string(good) {
				t.Fatalf("the canonical file has no %s", change[0])
			}
			if err := plan.verify([]byte(bad), place); err == nil {
				t.Errorf("passed:\n%s", bad)
			}
		})
	}
}

func TestPlacementIsChecked(t *testing.T) {
	plan := planOf(t, "services: {a: {image: x}}")
	for name, change := range map[string]func(*Placement){
		"project":          func(p *Placement) { p.Project = "sbx-other" },
		"relative workdir": func(p *Placement) { p.Workdir = "src" },
		"unclean workdir":  func(p *Placement) { p.Workdir = "/srv/s/../src" },
		"pins in workdir":  func(p *Placement) { p.PinDir = p.Workdir + "/pins" },
		"no subnet":        func(p *Placement) { p.Subnets = nil },
	} {
		place := placeOf(plan)
		change(&place)
		if _, err := plan.Render(place); err == nil {
			t.Errorf("%s: rendered", name)
		}
	}
}

func TestPlacementOptions(t *testing.T) {
	plan := planOf(t, "services: {a: {image: x, cpus: 1.5}, b: {build: {context: ., dockerfile_inline: FROM scratch}}}")
	place := placeOf(plan)
	place.CPUs, place.ImagePrefix, place.BridgeNames = 1, "sandboxer.local/other", map[string]string{"default": "sbxd01234567"}
	text, err := plan.Render(place)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"cpus: 1\n", `image: "sandboxer.local/other/b:g3"`, `"com.docker.network.bridge.name": "sbxd01234567"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

// nasty is made of what parsers disagree about.
var nasty = []string{
	"$", "$$", "${", "}", "${A}", "${A:-b}", "$A", "\\", "\"", "'", "\n", "\r", "\t", " ", "#", ": ", "- ", "*a", "&a", "!!str", "%", "@", "`", "|", ">", "<<", "=", "~", "null", "yes", "0x1", "1e3",
	".inf", "2001-01-01", "é", "\u00a0", "\u2028", "\u2029", "\u0085", "\ufeff", "😀", "\x7f", "\u0080", "---", "...", "[", "{", ",", "?", "a", "Z", "0",
}

func nastyText(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(8) {
		b.WriteString(nasty[r.IntN(len(nasty))])
	}
	return b.String()
}

// TestTextSurvives: whatever a service is given arrives on the host as it was
// meant, through writing, reading and interpolating again.
func TestTextSurvives(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		env, command := map[string]string{"K": nastyText(r), "k.with-odd.chars": nastyText(r)}, []string{"run"}
		for range r.IntN(4) {
			command = append(command, nastyText(r))
		}
		checkSurvives(t, env, command, nastyText(r))
	}
}

func FuzzTextSurvives(f *testing.F) {
	for _, s := range nasty {
		f.Add(s, s+"x", s+s)
	}
	f.Fuzz(func(t *testing.T, a, b, label string) {
		for _, s := range []string{a, b, label} {
			if strings.ContainsRune(s, 0) || strings.ToValidUTF8(s, "") != s || len(s) > 1000 {
				t.Skip("cannot be in an environment")
			}
		}
		checkSurvives(t, map[string]string{"K": a}, []string{"run", b}, label)
	})
}

func checkSurvives(t *testing.T, env map[string]string, command []string, label string) {
	t.Helper()
	plan := planOf(t, "services: {a: {image: x, command: [run]}}")
	s := plan.services["a"]
	s.fixed.Environment, *s.fixed.Command = env, command
	place := placeOf(plan)
	place.Labels = map[string]string{"dev.sandboxer.note": label}
	text, err := plan.Render(place)
	if err != nil {
		t.Fatalf("%q %q %q: %v", env, command, label, err)
	}
	l := &loading{files: &files{report: &report{}, root: "/nowhere"}, report: &report{}, request: Request{File: "compose.yaml", ID: testID}, text: text, env: map[string]string{"A": "interpolated again"}}
	project, err := l.load(t.Context(), true)
	if err != nil {
		t.Fatalf("%q %q: %v\n%s", env, command, err, text)
	}
	got := project.Services["a"]
	if diff := cmp.Diff(env, map[string]string(got.Environment.ToMapping())); diff != "" {
		t.Errorf("environment: %s", diff)
	}
	if diff := cmp.Diff(command, []string(got.Command)); diff != "" {
		t.Errorf("command: %s", diff)
	}
	if got := got.Labels["dev.sandboxer.note"]; got != label {
		t.Errorf("label: %q, want %q", got, label)
	}
}

// TestSourceSurvives: what compose-go is given to read is what was judged, in
// whatever style it was written.
func TestSourceSurvives(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 300 {
		var b strings.Builder
		for k := range r.IntN(6) {
			text := nastyText(r)
			switch r.IntN(3) {
			case 0:
				fmt.Fprintf(&b, "x-%d: '%s'\n", k, strings.NewReplacer("'", "''", "\n", "\n\n ", "\x7f", "", "\u0080", "").Replace(text))
			case 1:
				fmt.Fprintf(&b, "x-%d: %s\n", k, strings.TrimSpace(string(must(yaml.Marshal(text)))))
			default:
				fmt.Fprintf(&b, "x-%d: |\n  %s\n", k, strings.NewReplacer("\n", "\n  ", "\x7f", "", "\u0080", "").Replace(text))
			}
		}
		report := &report{}
		f := &files{tree: oneFile(b.String() + "services: {}\n"), report: report}
		s := f.parse("compose.yaml")
		if s == nil {
			continue // was not YAML
		}
		if _, err := s.text(); err != nil {
			t.Errorf("%d: %v\n%q", i, err, b.String())
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
