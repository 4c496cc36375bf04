package admission_test

import (
	"bytes"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/admission"
)

// renamed maps the corpus's rule names to those of this package, where they differ.
var renamed = map[string]string{
	"223-single-letter-volume": "VOL-TARGET", // what is wrong with it is where it mounts
}

// A specimen is one file of the corpus.
type specimen struct {
	name, verdict, rule string
	tree                memoryTree
}

func corpus(t testing.TB) []specimen {
	t.Helper()
	paths, err := filepath.Glob("testdata/corpus/*/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("the corpus is missing: %v", err)
	}
	var all []specimen
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		s := specimen{name: strings.TrimSuffix(filepath.Base(p), ".yaml"), tree: memoryTree{"compose.yaml": string(text)}}
		for line := range strings.SplitSeq(string(text), "\n") {
			if v, ok := strings.CutPrefix(line, "# verdict: "); ok {
				s.verdict, s.rule, _ = strings.Cut(v, " ")
			}
			if f, ok := strings.CutPrefix(line, "# fixture: "); ok {
				s.lay(t, f)
			}
		}
		if s.verdict == "" {
			t.Fatalf("%s has no verdict", p)
		}
		if r, ok := renamed[s.name]; ok {
			s.rule = r
		}
		all = append(all, s)
	}
	return all
}

// lay puts a fixture beside the compose file.
func (s *specimen) lay(t testing.TB, fixture string) {
	kind, rest, _ := strings.Cut(fixture, " ")
	name, text, _ := strings.Cut(rest, " ")
	text = strings.ReplaceAll(text, `\n`, "\n")
	switch kind {
	case "file":
		s.tree[name] = text
	case "dir":
		s.tree[name+"/.keep"] = ""
	case "symlink":
		s.tree[name] = "-> " + text
	case "selfsymlink":
		s.tree["compose.yaml"] = "-> " + name
	case "fifo": // no snapshot holds one: it is as if it were not there
	case "dotenvbomb":
		s.tree[name] = dotenvBomb()
	default:
		t.Fatalf("%s: fixture %q is not known", s.name, fixture)
	}
}

// dotenvBomb doubles a variable with every line.
func dotenvBomb() string {
	var b strings.Builder
	b.WriteString("A0=xxxxxxxxxxxxxxxx\n")
	for i := range 40 {
		b.WriteString("A" + string(rune('a'+i%26)) + strings.Repeat("x", i/26) + "=$A0$A0\nA0=$A" + string(rune('a'+i%26)) + strings.Repeat("x", i/26) + "\n")
	}
	return b.String()
}

const id = "abcdefghij0123456789"

func request(tree admission.Tree) admission.Request {
	return admission.Request{Tree: tree, ID: id, Generation: 1, Policy: admission.Policy{
		Egress: sandboxer.EgressDeny, CPUs: 2, Memory: 2 << 30, PIDs: 1024, MaxContainers: 25,
	}}
}

func placement(p *admission.Plan) admission.Placement {
	place := admission.Placement{
		Project: "sbx-" + id, Workdir: "/var/lib/sandboxer/sb/" + id + "/src", PinDir: "/var/lib/sandboxer/sb/" + id + "/pins",
		Labels: map[string]string{"dev.sandboxer.id": id, "dev.sandboxer.actor": `a "quoted" $name`}, Subnets: map[string]netip.Prefix{},
	}
	for i, n := range p.Networks {
		place.Subnets[n.Key] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 201, byte(i), 0}), 28)
	}
	return place
}

func TestCorpus(t *testing.T) {
	for _, s := range corpus(t) {
		t.Run(s.name, func(t *testing.T) {
			plan, a, err := admission.Check(t.Context(), request(s.tree))
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range a.Violations {
				t.Log(v)
			}
			for _, r := range a.Rewrites {
				t.Logf("%s: %s [%s]", r.Path, r.Message, r.Rule)
			}
			if s.verdict == "deny" {
				expectDenied(t, s, plan, a)
				return
			}
			if a.Verdict != sandboxer.Allow {
				t.Fatalf("refused, want %s", s.verdict)
			}
			if s.verdict == "rewrite" && !slices.ContainsFunc(a.Rewrites, func(r sandboxer.Rewrite) bool { return r.Rule == s.rule }) {
				t.Errorf("no rewrite by %s", s.rule)
			}
			if _, err := plan.Render(placement(plan)); err != nil {
				t.Error(err)
			}
		})
	}
}

func expectDenied(t *testing.T, s specimen, plan *admission.Plan, a sandboxer.Admission) {
	t.Helper()
	if a.Verdict != sandboxer.Deny || plan != nil {
		t.Fatalf("verdict %s, want deny by %s", a.Verdict, s.rule)
	}
	if !slices.ContainsFunc(a.Violations, func(v sandboxer.Violation) bool { return v.Rule == s.rule }) {
		t.Errorf("not refused by %s", s.rule)
	}
	for _, v := range a.Violations {
		if v.File == "" || v.Message == "" || v.Hint == "" {
			t.Errorf("finding without file, message or hint: %+v", v)
		}
	}
}

// TestCorpusComposeReads feeds every accepted file to the compose plugin, which needs no engine for it.
func TestCorpusComposeReads(t *testing.T) {
	if err := exec.Command("docker", "compose", "version").Run(); err != nil {
		if os.Getenv("SANDBOXER_REQUIRE_ENGINE") == "1" {
			t.Fatalf("the compose plugin is required: %v", err)
		}
		t.Skipf("no compose plugin: %v", err)
	}
	for _, s := range corpus(t) {
		if s.verdict == "deny" {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			plan, _, err := admission.Check(t.Context(), request(s.tree))
			if err != nil || plan == nil {
				t.Fatal("not accepted", err)
			}
			text, err := plan.Render(placement(plan))
			if err != nil {
				t.Fatal(err)
			}
			composeReads(t, text)
		})
	}
}

// composeReads runs compose's own check on a canonical file as the host does.
func composeReads(t *testing.T, text []byte) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "compose.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "docker", "compose", "-p", "sbx-"+id, "--project-directory", dir, "--env-file", os.DevNull, "-f", file, "config", "-q")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "DOCKER_CONFIG=" + dir, "COMPOSE_DISABLE_ENV_FILE=1"}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil || out.Len() > 0 {
		t.Errorf("docker compose config: %v\n%s\n%s", err, out.String(), text)
	}
}
