package admission_test

import (
	"bytes"
	"os"
	"reflect"
	"regexp"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/admission"
	"github.com/sirupsen/logrus"
)

// What no file may take of the client.
const (
	patience = 2 * time.Second
	memory   = 256 << 20
)

// A repository of the fuzzer: its three files, beside some that never change.
func fuzzedTree(compose, env, other string) memoryTree {
	return memoryTree{
		"compose.yaml": compose, ".env": env, "other.yml": other, "other.env": other,
		"Dockerfile": "FROM scratch\n", "dir/Dockerfile": "FROM scratch\n", "dir/file": "x", "dir/link": "-> file",
		"link": "-> dir", "out": "-> /etc/passwd", "dir/.env": "D=d\n",
	}
}

// fuzzedPolicy makes a policy of bits. The first is what an unwritten profile has.
func fuzzedPolicy(bits byte) admission.Policy {
	p := admission.Policy{Egress: sandboxer.EgressDeny, CPUs: 2, Memory: 2 << 30, PIDs: 1024, MaxContainers: 25}
	if bits&1 != 0 {
		p.Egress = sandboxer.EgressAllow
	}
	if bits&2 != 0 {
		p.Allow = admission.Loosenable()
	}
	if bits&4 != 0 {
		p.CPUs, p.Memory, p.PIDs = 0, 0, 0
	}
	p.HostAccess = bits&8 != 0
	return p
}

// examine checks a repository and judges the answer: within bounds, the same
// each time, a refusal with reasons, or a canonical file that is safe.
func examine(t *testing.T, tree memoryTree, policy admission.Policy) (accepted bool) {
	t.Helper()
	req := request(tree)
	req.Policy = policy
	req.Env = map[string]string{"INPUT": "input"}
	plan, a := bounded(t, req)
	if plan == nil {
		if len(a.Violations) == 0 || a.Verdict != sandboxer.Deny {
			t.Errorf("verdict %s without a reason", a.Verdict)
		}
		for _, v := range a.Violations {
			if v.Rule == "" || v.Message == "" || v.Hint == "" || v.File == "" || v.Line < 1 {
				t.Errorf("a refusal that does not explain itself: %+v", v)
			}
			if strings.Contains(v.Message+v.Hint+v.Path+v.File, os.TempDir()+"/sandboxer-") {
				t.Errorf("speaks of a file of this machine: %+v", v)
			}
		}
		return false
	}
	if len(a.Violations) > 0 || a.Verdict != sandboxer.Allow {
		t.Errorf("verdict %s with a plan: %v", a.Verdict, a.Violations)
	}
	place := placement(plan)
	text, err := plan.Render(place)
	if err != nil {
		t.Fatalf("accepted, but: %v", err)
	}
	for _, problem := range append(unsafe(text, tree, policy, place), unsafePlan(plan, tree, policy)...) {
		t.Errorf("unsafe: %s", problem)
	}
	if t.Failed() {
		t.Logf("the canonical file:\n%s", text)
	}
	again, b := bounded(t, req)
	if again == nil || !reflect.DeepEqual(a, b) || !bytes.Equal(text, must(again.Render(place))) {
		t.Error("another answer the second time")
	}
	return true
}

// blankDefault is what compose-go's reader of env files cannot be kept from
// logging: that a variable which a file names both as $A and as ${A-…} is not set.
var blankDefault = regexp.MustCompile(`(?m)^.*The \\"[^"]*\\" variable is not set\. Defaulting to a blank string\."\n`)

// bounded checks within the bounds, or fails. The machine may be busy, so that
// the best of three counts; what does not end at all is ended here. compose-go
// writes to the log of the whole process, which is not ours.
func bounded(t *testing.T, req admission.Request) (*admission.Plan, sandboxer.Admission) {
	t.Helper()
	hung := time.AfterFunc(20*patience, func() {
		debug.SetTraceback("all")
		panic("does not end")
	})
	defer hung.Stop()
	var logged bytes.Buffer
	logrus.SetOutput(&logged)
	defer logrus.SetOutput(os.Stderr)
	for attempt := 1; ; attempt++ {
		before, begin := allocated(), time.Now()
		plan, a, err := admission.Check(t.Context(), req)
		took, got := time.Since(begin), allocated()-before
		if err != nil {
			t.Fatal(err)
		}
		if rest := blankDefault.ReplaceAllString(logged.String(), ""); rest != "" {
			t.Errorf("writes to the log of the process: %s", rest)
		}
		if took < patience && got < memory {
			return plan, a
		}
		if attempt == 3 {
			t.Fatalf("took %v and %d MiB", took, got>>20)
		}
	}
}

// allocated is how much memory this process has ever asked for, in bytes. What
// it holds at once is less.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// FuzzCheck: any three files.
func FuzzCheck(f *testing.F) {
	for _, s := range corpus(f) {
		other := ""
		for name, text := range s.tree {
			if name != "compose.yaml" && name != ".env" && !strings.HasPrefix(text, "-> ") {
				other = text
			}
		}
		f.Add(s.tree["compose.yaml"], s.tree[".env"], other, byte(0))
		f.Add(s.tree["compose.yaml"], s.tree[".env"], other, byte(15))
	}
	for _, test := range honest {
		f.Add(test.tree["compose.yaml"], test.tree[".env"], "", byte(1))
	}
	f.Add("include: [other.yml]\nservices: {a: {extends: {file: other.yml, service: b}}}", "A=$B\nB=${A:-x}\n", "services: {b: {image: '${A}', env_file: other.env}}", byte(0))
	f.Add("include: [compose.yaml]\nservices: {a: {extends: {file: compose.yaml, service: a}}}", "", "", byte(0))
	f.Add("x-a: &a {image: x}\nservices: {a: {<<: *a, ports: ['80-90:80-90'], volumes: ['.:/x', './dir:/a'], env_file: [{path: other.env, format: raw}]}}", "", "A=1\nB\n", byte(0))
	f.Fuzz(func(t *testing.T, compose, env, other string, bits byte) {
		examine(t, fuzzedTree(compose, env, other), fuzzedPolicy(bits))
	})
}

// FuzzEnv: any env file, in every place that reads one. What compose-go's own
// reader makes of the values must be what arrives.
func FuzzEnv(f *testing.F) {
	for _, s := range []string{
		"A=b\n", "A='$B'\nB=\"${A}\\n\"\n", "export A=b # c\n", "A: b\n", "A=\"un\nclosed", "A='\\'\\'\\''", "\ufeffA=b\r\n", "A=${B:?no}\n", "A=$$A\n", "=x", "A", "A=\\$B\n", dotenvBomb(),
		"COMPOSE_FILE=x\nDOCKER_HOST=y\n", "A=${B:-${C:-${D:-$E}}}\n", "A=`x`\n", "A=\x00", "a.b-c=d\n",
	} {
		f.Add(s, byte(0))
		f.Add(s, byte(1))
	}
	f.Fuzz(func(t *testing.T, env string, form byte) {
		text := []string{
			"services: {a: {image: x, env_file: other.env}}",
			"services: {a: {image: x, env_file: [{path: other.env, format: raw}]}}",
			"include: [{path: dir/one.yml, env_file: other.env}]\nservices: {a: {image: x}}",
			"services: {a: {image: x, environment: {A: '${A}', B: '${B:-b}'}, label_file: other.env}}",
		}[form%4]
		tree := fuzzedTree(text, "", env)
		tree["dir/one.yml"] = "services: {b: {image: x, environment: {A: '${A}', B: '${B-b}'}}}"
		if form%4 == 3 {
			tree[".env"] = env
		}
		examine(t, tree, fuzzedPolicy(0))
	})
}

// FuzzGrammar: files made of every attribute of the Compose Specification, so
// that what is tried is more than the parser.
func FuzzGrammar(f *testing.F) {
	for seed := range uint64(64) {
		f.Add(randomBytes(seed, 60+8*int(seed)), byte(seed))
	}
	f.Fuzz(func(t *testing.T, choices []byte, bits byte) {
		if len(choices) > 4<<10 {
			t.Skip("more than a file needs")
		}
		tree := newGrammar(choices).tree()
		defer func() {
			if t.Failed() {
				t.Logf("compose.yaml:\n%s\n.env:\n%s\nother.yml:\n%s", tree["compose.yaml"], tree[".env"], tree["other.yml"])
			}
		}()
		examine(t, tree, fuzzedPolicy(bits))
	})
}
