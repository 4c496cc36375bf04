package admission_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/admission"
	"go.yaml.in/yaml/v4"
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
		Egress: sandboxer.EgressDeny, CPUs: 2, Memory: 2 << 30, PIDs: 1024, MaxContainers: 40,
	}}
}

func placement(p *admission.Plan) admission.Placement {
	place := admission.Placement{
		Project: "sbx-" + id, Workdir: "/var/lib/sandboxer/sb/" + id + "/src", PinDir: "/var/lib/sandboxer/sb/" + id + "/pins", SecretDir: secretDir,
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

// TestSameAsPlainCompose asks the compose plugin, which needs no engine for
// it, what it understands of a file and of its canonical form: what runs in
// the containers, in which order and on which mounts must be the same.
func TestSameAsPlainCompose(t *testing.T) {
	needsCompose(t)
	trees := map[string]memoryTree{}
	for _, s := range corpus(t) {
		if s.verdict != "deny" && !showing[s.name] {
			trees[s.name] = s.tree
		}
	}
	for name, test := range honest {
		trees[name] = test.tree
	}
	for name, tree := range trees {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sameAsPlain(t, tree, honest[name].env)
		})
	}
}

// scraps are what writers, readers and templates of YAML disagree about. Each
// is a whole template or none, so that any sequence of them can be read.
var scraps = []string{
	"$$", "${A}", "$A", "${A:-b c}", "${B-\"d\"}", "${NOT_SET:-}", "$${A}", "$$$$", "}", "\\", "\\n", "\"", "'", "\n", "\n\n", "\t", " ", "  ", "#", " # ", ": ", "- ", "*a", "&a", "!!str ", "!x ", "%", "@", "`", "|", ">",
	"<<", "=", "~", "null", "yes", "no", "on", "0x1F", "0o17", "1e3", "1_000", ".inf", "12:34:56", "2001-01-01", "é", "\u00a0", "\u2028", "\u0085", "\ufeff", "😀", "\u0301", "---", "...", "[", "]", "{", ",", "?", "a", "Z", "0", "-1", "+1.5",
}

// TestAnyTextIsTheSameAsInPlainCompose puts random text into every attribute
// that takes it, in every style of YAML that can hold it.
func TestAnyTextIsTheSameAsInPlainCompose(t *testing.T) {
	needsCompose(t)
	r := rand.New(rand.NewPCG(5, 6))
	text := func() *yaml.Node {
		var b strings.Builder
		for range r.IntN(7) {
			b.WriteString(scraps[r.IntN(len(scraps))])
		}
		styles := []yaml.Style{yaml.DoubleQuotedStyle, yaml.SingleQuotedStyle, 0}
		n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: b.String(), Style: styles[r.IntN(len(styles))]}
		var back string
		if out, err := yaml.Marshal(n); err != nil || yaml.Unmarshal(out, &back) != nil || back != n.Value {
			n.Style = yaml.DoubleQuotedStyle // the writer cannot hold it otherwise
		}
		return n
	}
	texts := func() *yaml.Node {
		n := &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: "CMD"}}}
		for range r.IntN(4) {
			n.Content = append(n.Content, text())
		}
		return n
	}
	for i := 0; i < 3; i++ {
		services := map[string]any{}
		for k := range 25 {
			services[fmt.Sprintf("s%d", k)] = map[string]any{
				"image": "alpine:3.20", "command": texts(), "entrypoint": texts(), "environment": map[string]any{"K": text(), "L.m-n": text()},
				"healthcheck": map[string]any{"test": texts()}, "labels": map[string]any{"l": text()}, "working_dir": text(),
				"post_start": []any{map[string]any{"command": texts(), "environment": map[string]any{"P": text()}}},
			}
		}
		file, err := yaml.Marshal(map[string]any{"services": services})
		if err != nil {
			t.Fatal(err)
		}
		if yaml.Unmarshal(file, new(any)) != nil { // the library's writer makes what its reader refuses
			i--
			continue
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			sameAsPlain(t, memoryTree{"compose.yaml": string(file), ".env": "A='1 \"$2\" #3'\n"}, nil)
		})
	}
}

// showing are the files whose rewrites change what compose understands: their
// own tests say how.
var showing = map[string]bool{
	"339-bind-data-directory":          true, // an empty directory stands in for the host's
	"403-network-of-sibling-container": true, // the sibling is named as a service, which is waited for
	"404-volumes-of-sibling-container": true,
	"413-probe-busy":                   true, // probes are a second apart
}

func needsCompose(t *testing.T) {
	t.Helper()
	if err := exec.Command("docker", "compose", "version").Run(); err != nil {
		if os.Getenv("SANDBOXER_REQUIRE_ENGINE") == "1" {
			t.Fatalf("the compose plugin is required: %v", err)
		}
		t.Skipf("no compose plugin: %v", err)
	}
}

// sameAsPlain compares what compose understands of a file and of its canonical form.
func sameAsPlain(t *testing.T, tree memoryTree, env map[string]string) {
	t.Helper()
	req := request(tree)
	req.Env = env
	plan, a, err := admission.Check(t.Context(), req)
	if err != nil || plan == nil {
		t.Fatal("not accepted", a.Violations, err)
	}
	text, err := plan.Render(placement(plan))
	if err != nil {
		t.Fatal(err)
	}
	canonical := filepath.Join(t.TempDir(), "compose.yaml")
	if err := os.WriteFile(canonical, text, 0o600); err != nil {
		t.Fatal(err)
	}
	got, problems := composeConfig(t, canonical, nil)
	if problems != "" {
		t.Errorf("compose says of the canonical file: %s", problems)
	}
	dir := materialise(t, tree)
	file := filepath.Join(dir, "compose.yaml")
	if _, ok := tree["e2e/compose.yaml"]; ok {
		file = filepath.Join(dir, "e2e/compose.yaml")
	}
	want, _ := composeConfig(t, file, req.Env)
	for _, p := range plan.Pins {
		unpin(got, pinDir+"/"+p.Name, workdir+"/"+p.Source)
	}
	if diff := cmp.Diff(essence(want, dir), essence(got, workdir)); diff != "" {
		t.Errorf("plain compose understands (-), the host's (+):\n%s", diff)
	}
}

// composeConfig is what compose makes of a file, and what it says about it.
func composeConfig(t *testing.T, file string, env map[string]string) (config map[string]any, said string) {
	t.Helper()
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "docker", "compose", "-p", "sbx-"+id, "-f", file, "config", "--format", "json")
	cmd.Dir = filepath.Dir(file)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "DOCKER_CONFIG=" + home, "PWD=" + cmd.Dir}
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		t.Fatalf("docker compose config: %v\n%s", err, problems.String())
	}
	if err := json.Unmarshal(out.Bytes(), &config); err != nil {
		t.Fatal(err)
	}
	return config, problems.String()
}

// unpin takes a bind of a copy for what was copied.
func unpin(config map[string]any, pin, source string) {
	for _, s := range config["services"].(map[string]any) {
		for _, v := range list(s.(map[string]any)["volumes"]) {
			if m := v.(map[string]any); m["source"] == pin {
				m["source"] = source
			}
		}
	}
}

// essence is what no rewrite may change, with paths relative to dir.
func essence(config map[string]any, dir string) map[string]any {
	services, _ := config["services"].(map[string]any)
	out := map[string]any{}
	for name, s := range services {
		service := s.(map[string]any)
		kept := map[string]any{}
		for _, key := range []string{
			"command", "entrypoint", "working_dir", "user", "group_add", "environment", "depends_on", "healthcheck", "links", "init", "tty", "stdin_open", "read_only",
			"hostname", "domainname", "stop_signal", "platform", "expose", "extra_hosts", "sysctls", "post_start", "volumes_from", "pid", "ipc",
		} {
			if v := service[key]; v != nil {
				kept[key] = v
			}
		}
		if env, _ := kept["environment"].(map[string]any); env != nil {
			maps.DeleteFunc(env, func(_ string, v any) bool { return v == nil })
			if len(env) == 0 {
				delete(kept, "environment")
			}
		}
		if build, ok := service["build"].(map[string]any); ok {
			kept["build"] = []any{strings.TrimPrefix(build["context"].(string), dir), build["target"], build["no_cache"]}
		}
		if needed, _ := kept["depends_on"].(map[string]any); needed != nil {
			maps.DeleteFunc(needed, func(name string, _ any) bool { return services[name] == nil }) // optional, of an inactive profile
			if len(needed) == 0 {
				delete(kept, "depends_on")
			}
		}
		var mounts []string
		for _, v := range list(service["volumes"]) {
			m := v.(map[string]any)
			kind, source := m["type"], fmt.Sprint(m["source"])
			if device := at(config, "volumes/"+source+"/driver_opts/device"); device != nil && device != "tmpfs" {
				kind, source = "bind", device.(string) // a bind by another name
			}
			if !strings.HasPrefix(source, "/etc/") && source != "/dev/shm" { // the host's clock and shared memory
				mounts = append(mounts, fmt.Sprint(kind, " ", strings.TrimPrefix(source, dir), " ", m["target"], " ", m["read_only"] == true))
			}
		}
		kept["mounts"] = mounts
		for _, kind := range []string{"secrets", "configs"} {
			for _, v := range list(service[kind]) {
				kept[kind] = append(list(kept[kind]), v.(map[string]any)["source"], v.(map[string]any)["target"])
			}
		}
		out[name] = kept
	}
	return out
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

// materialise lays a tree down on disk.
func materialise(t *testing.T, tree memoryTree) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range tree {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			err = os.Symlink(target, p)
		} else {
			err = os.WriteFile(p, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
