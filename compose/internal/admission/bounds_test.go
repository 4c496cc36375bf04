package admission_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/admission"
)

const service = "services: {a: {image: alpine}}\n"

// hostile are repositories that are small to write and large to read, with the
// rule that refuses them. Empty: accepted, but as cheaply.
func hostile() map[string]struct {
	tree memoryTree
	rule string
} {
	return map[string]struct {
		tree memoryTree
		rule string
	}{
		"deep flow":             {memoryTree{"compose.yaml": service + "x-a: " + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)}, "YAML"},
		"deep but parseable":    {memoryTree{"compose.yaml": service + "x-a: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000)}, "YAML-BOMB"},
		"unclosed flow":         {memoryTree{"compose.yaml": service + "x-a: " + strings.Repeat("{a: ", 60_000)}, "YAML"},
		"deep block":            {memoryTree{"compose.yaml": service + deepBlock(400)}, "YAML-BOMB"},
		"deep by aliases":       {memoryTree{"compose.yaml": aliasChain(100)}, "YAML-BOMB"},
		"wide by aliases":       {memoryTree{"compose.yaml": aliasTree(9)}, "YAML-BOMB"},
		"many values":           {memoryTree{"compose.yaml": service + "x-a: [" + strings.Repeat("1,", 30_000) + "1]"}, "YAML-BOMB"},
		"large file":            {memoryTree{"compose.yaml": service + "#" + strings.Repeat("x", 300_000)}, "YAML-BOMB"},
		"many services":         {memoryTree{"compose.yaml": manyServices(4000)}, "SCALE"},
		"one name many times":   {memoryTree{"compose.yaml": "services:\n" + strings.Repeat("  a: {image: x}\n", 5000)}, "LOAD"},
		"many merges":           {memoryTree{"compose.yaml": mergeMany(1000)}, "SCALE"},
		"merges within bounds":  {memoryTree{"compose.yaml": mergeMany(200)}, "SCALE"},
		"long text":             {memoryTree{"compose.yaml": "services: {a: {image: alpine, command: [\"" + strings.Repeat("x", 250_000) + "\"]}}"}, ""},
		"port range":            {memoryTree{"compose.yaml": "services: {a: {image: alpine, ports: ['1-65535:1-65535']}}"}, "PORT-RANGE"},
		"port range by default": {memoryTree{"compose.yaml": "services: {a: {image: alpine, ports: ['${P:-1-65535}']}}"}, "PORT-RANGE"},
		"port range by .env":    {memoryTree{"compose.yaml": "services: {a: {image: alpine, ports: ['${P}']}}", ".env": "P=1-65535:1-65535/udp\n"}, "PORT-RANGE"},
		"extends multiplies":    {memoryTree{"compose.yaml": extendMany(150, "")}, "YAML-BOMB"},
		"extends from a file":   {memoryTree{"compose.yaml": extendMany(150, "b.yml"), "b.yml": extendMany(0, "")}, "YAML-BOMB"},
		"many files":            manyFiles(140),
		"port ranges by alias":  {memoryTree{"compose.yaml": portAliases(199)}, "PORT-RANGE"},
		"expose range":          {memoryTree{"compose.yaml": "services: {a: {image: alpine, expose: ['1-65535']}}"}, "PORT-RANGE"},
		".env doubles":          {memoryTree{"compose.yaml": service, ".env": dotenvBomb()}, "ENVFILE-BOMB"},
		"env_file doubles":      {memoryTree{"compose.yaml": "services: {a: {image: alpine, env_file: bomb}}", "bomb": dotenvBomb()}, "ENVFILE-BOMB"},
		"include env doubles":   {memoryTree{"compose.yaml": "include: [{path: b.yml, env_file: bomb}]\n" + service, "b.yml": "services: {b: {image: alpine}}", "bomb": dotenvBomb()}, "ENVFILE-BOMB"},
		"variable repeats":      {memoryTree{"compose.yaml": "services: {a: {image: alpine, command: ['" + strings.Repeat("$A", 100_000) + "']}}", ".env": "A=" + strings.Repeat("x", 100_000)}, "LOAD"},
		"variables nest":        {memoryTree{"compose.yaml": "services: {a: {image: alpine, command: ['" + strings.Repeat("${A:-", 5000) + strings.Repeat("}", 5000) + "']}}"}, "LOAD"},
		"variables in a row":    {memoryTree{"compose.yaml": "services: {a: {image: alpine, command: ['" + strings.Repeat("${A:-b}", 20_000) + "']}}"}, "LOAD"},
		"variables on lines":    {memoryTree{"compose.yaml": "services: {a: {image: alpine, command: [\"" + strings.Repeat("${A:-b}\\n", 5000) + "\"]}}"}, ""},
		"variables in .env":     {memoryTree{"compose.yaml": service, ".env": "A=" + strings.Repeat("${A:-b}", 20_000)}, "ENVFILE-BOMB"},
		"comments in .env":      {memoryTree{"compose.yaml": service, ".env": strings.Repeat("#\n", 120_000)}, ""},
		"quotes in .env":        {memoryTree{"compose.yaml": service, ".env": strings.Repeat("A='\\'\\'\\''\n", 20_000)}, ""},
		"include itself":        {memoryTree{"compose.yaml": "include: [compose.yaml]\n" + service}, "INCLUDE"},
		"include in a ring":     {memoryTree{"compose.yaml": "include: [a.yml]\n" + service, "a.yml": "include: [b.yml]\n", "b.yml": "include: [a.yml]\n"}, "INCLUDE"},
		"include doubles":       {includeTree(12), "LIMIT"},
		"extends in a ring":     {memoryTree{"compose.yaml": "services: {a: {extends: {file: b.yml, service: b}}}", "b.yml": "services: {b: {extends: {file: compose.yaml, service: a}}}"}, "LOAD"},
		"many violations":       {memoryTree{"compose.yaml": "services: {a: {image: alpine, sysctls: {" + numbered(5000, "v%d: 1, ") + "}}}"}, "SYSCTL"},
		"many in a list":        {memoryTree{"compose.yaml": "services: {a: {image: alpine, sysctls: [" + numbered(5000, "v%d=1, ") + "]}}"}, "SYSCTL"},
		"many rewrites":         {memoryTree{"compose.yaml": "services: {a: {image: alpine, environment: {" + numbered(5000, "v%d: , ") + "}}}"}, ""},
		"many unset variables":  {memoryTree{"compose.yaml": "services: {a: {image: alpine, command: [" + numbered(3000, "$v%d, ") + "]}}"}, ""},
		"many that are needed":  {memoryTree{"compose.yaml": "services: {a: {image: alpine, command: [" + numbered(1000, "'${v%d?}', ") + "]}}"}, "LOAD"},
		"many port ranges":      {memoryTree{"compose.yaml": "services: {a: {image: alpine, ports: [" + numbered(5000, "'%d-60000', ") + "]}}"}, "PORT-RANGE"},
		"many names of values":  {memoryTree{"compose.yaml": "services: {a: {image: alpine, env_file: a.env}}", "a.env": numbered(30_000, "V%d\n")}, ""},
		"env file of each":      {memoryTree{"compose.yaml": "services: {" + numbered(39, "s%d: {image: alpine, env_file: a.env}, ") + "}", "a.env": "A=" + strings.Repeat("x", 200_000)}, "ENVFILE-BOMB"},
		"env file many times":   {memoryTree{"compose.yaml": "services: {a: {image: alpine, env_file: [" + numbered(300, "x%d/../a.env, ") + "]}}", "a.env": strings.Repeat("#\n", 100_000)}, "ENVFILE-BOMB"},
		"env file in includes":  {memoryTree{"compose.yaml": "include: [{path: b.yml, env_file: [" + strings.Repeat("a.env, ", 300) + "]}]", "b.yml": service, "a.env": strings.Repeat("#\n", 100_000)}, "ENVFILE-BOMB"},
		"long path":             {memoryTree{"compose.yaml": "services: {a: {image: alpine, volumes: ['./" + strings.Repeat("a/", 24_000) + ":/x']}}"}, "BIND-MISSING"},
		"long paths":            {memoryTree{"compose.yaml": "services: {a: {image: alpine, env_file: [" + numbered(50, "'"+strings.Repeat("a/", 2500)+"%d', ") + "]}}"}, "ENVFILE"},
		"long name":             {memoryTree{"compose.yaml": "services: {a: {image: alpine, volumes: ['./" + strings.Repeat("a", 256) + ":/x']}}"}, "BIND-MISSING"},
		"long name outside":     {memoryTree{"compose.yaml": "services: {a: {image: alpine, volumes: ['/data/" + strings.Repeat("a", 256) + ":/x']}}"}, "BIND-MISSING"},
		"long target":           {memoryTree{"compose.yaml": "services: {a: {image: alpine, volumes: ['./a:/" + strings.Repeat("a/", 3000) + "']}}"}, "VOL-TARGET"},
		"long include":          {memoryTree{"compose.yaml": "include: ['" + strings.Repeat("a/", 24_000) + "b.yml']\n" + service}, "INCLUDE"},
		"Dockerfile of all":     {memoryTree{"compose.yaml": "services: {" + numbered(39, "s%d: {build: .}, ") + "}", "Dockerfile": "FROM scratch\n" + numbered(4_000, "ADD x%d /y\\\n\n")}, ""},
		"Dockerfile of each":    dockerfiles(39),
		"large Dockerfile":      {memoryTree{"compose.yaml": "services: {a: {build: .}}", "Dockerfile": "FROM scratch\n" + strings.Repeat("#\n", 200_000)}, "BUILD-DOCKERFILE"},
		"merges of merges":      {memoryTree{"compose.yaml": mergeTree(20)}, "YAML-BOMB"},
		"long text by aliases":  {memoryTree{"compose.yaml": "x-a: &a '" + strings.Repeat("x", 20_000) + "'\nservices: {a: {image: alpine, command: [" + strings.Repeat("*a ,", 500) + "]}}"}, "YAML-BOMB"},
		"long keys by aliases":  {memoryTree{"compose.yaml": "x-a: &a {" + strings.Repeat("x", 20_000) + ": y}\nx-b: [" + strings.Repeat("*a ,", 500) + "]\n" + service}, "YAML-BOMB"},
		"long text by merges":   {memoryTree{"compose.yaml": "x-a: &a {image: alpine, command: ['" + strings.Repeat("x", 50_000) + "']}\nservices: {" + numbered(190, "s%d: {<<: *a}, ") + "}"}, "YAML-BOMB"},
		"long text by extends":  {memoryTree{"compose.yaml": "services: {base: {image: alpine, command: ['" + strings.Repeat("x", 50_000) + "']}, " + numbered(190, "s%d: {extends: base}, ") + "}"}, "YAML-BOMB"},
		"long text in bounds":   {memoryTree{"compose.yaml": "x-a: &a '" + strings.Repeat("x", 20_000) + "'\nservices: {a: {image: alpine, command: [" + strings.Repeat("*a ,", 190) + "]}}"}, ""},
		"extends itself":        {memoryTree{"compose.yaml": "services: {a: {image: alpine, extends: a}}"}, "LOAD"},
	}
}

// TestHostileSize: what is small to write and large to read is refused, soon
// and in little memory.
func TestHostileSize(t *testing.T) {
	for name, test := range hostile() {
		t.Run(name, func(t *testing.T) {
			plan, a := cheaply(t, test.tree)
			if test.rule == "" {
				if a.Verdict != sandboxer.Allow {
					t.Errorf("refused: %v", a.Violations)
				}
				return
			}
			if plan != nil || !has(a, test.rule) {
				t.Errorf("not refused by %s: %.300v", test.rule, a.Violations)
			}
		})
	}
}

// cheaply checks a tree, and renders what is accepted: each in 2 s and 256 MiB,
// or, on a slow machine or with the race detector, in sixty times what a file of
// a hundred services takes.
func cheaply(t *testing.T, tree memoryTree) (plan *admission.Plan, a sandboxer.Admission) {
	t.Helper()
	inBounds(t, "Check", func() (err error) {
		plan, a, err = admission.Check(t.Context(), request(tree))
		return err
	})
	if plan != nil {
		inBounds(t, "Render", func() error {
			_, err := plan.Render(placement(plan))
			return err
		})
	}
	return plan, a
}

// inBounds does something at most three times: the machine may be busy, so the
// best counts.
func inBounds(t *testing.T, what string, do func() error) {
	t.Helper()
	for attempt := 1; ; attempt++ {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		begin := time.Now()
		err := do()
		took := time.Since(begin)
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		allocated := after.TotalAlloc - before.TotalAlloc
		if (took < patience || took < 60*usual(t)) && allocated < memory {
			return
		}
		if attempt == 3 {
			t.Fatalf("%s took %v and %d MiB", what, took, allocated>>20)
		}
	}
}

// usual is how long a large honest file takes here and now.
func usual(t *testing.T) time.Duration {
	t.Helper()
	req := request(hundred())
	req.Policy.MaxContainers = 100
	begin := time.Now()
	if _, _, err := admission.Check(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	return time.Since(begin)
}

func has(a sandboxer.Admission, rule string) bool {
	for _, v := range a.Violations {
		if v.Rule == rule {
			return true
		}
	}
	return false
}

func deepBlock(levels int) string {
	var b strings.Builder
	for i := range levels {
		fmt.Fprintf(&b, "%sx-a:\n", strings.Repeat(" ", i))
	}
	return b.String()
}

// aliasChain nests through anchors, one level each.
func aliasChain(n int) string {
	b := strings.Builder{}
	b.WriteString("x-0: &a0 [x]\n")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "x-%d: &a%d [*a%d]\n", i, i, i-1)
	}
	return b.String() + service
}

// aliasTree makes ten of each level.
func aliasTree(levels int) string {
	b := strings.Builder{}
	b.WriteString("x-0: &a0 [" + strings.Repeat("x,", 9) + "x]\n")
	for i := 1; i < levels; i++ {
		fmt.Fprintf(&b, "x-%d: &a%d [%s*a%d]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), i-1)
	}
	return b.String() + service
}

// numbered repeats a text with a number in it.
func numbered(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// mergeTree makes ten of each level, through merge keys.
func mergeTree(levels int) string {
	b := strings.Builder{}
	b.WriteString("x-0: &a0 {image: alpine}\n")
	for i := 1; i < levels; i++ {
		fmt.Fprintf(&b, "x-%d: &a%d {<<: [%s*a%d]}\n", i, i, strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), i-1)
	}
	return b.String() + fmt.Sprintf("services: {a: {<<: *a%d}}\n", levels-1)
}

func manyServices(n int) string {
	b := strings.Builder{}
	b.WriteString("services:\n")
	for i := range n {
		fmt.Fprintf(&b, "  s%d: {image: alpine}\n", i)
	}
	return b.String()
}

func mergeMany(n int) string {
	b := strings.Builder{}
	b.WriteString("x-a: &a {image: alpine, environment: {A: b, C: d, E: f}, labels: [a, b, c], ports: ['80']}\nservices:\n")
	for i := range n {
		fmt.Fprintf(&b, "  s%d: {<<: *a}\n", i)
	}
	return b.String()
}

// extendMany repeats one long service by extending it.
func extendMany(n int, file string) string {
	b := strings.Builder{}
	b.WriteString("services:\n  base: {image: alpine, environment: [" + strings.Repeat("A=b,", 500) + "A=b]}\n")
	for i := range n {
		if file != "" {
			fmt.Fprintf(&b, "  s%d: {extends: {file: %s, service: base}}\n", i, file)
			continue
		}
		fmt.Fprintf(&b, "  s%d: {extends: base}\n", i)
	}
	return b.String()
}

func manyFiles(n int) struct {
	tree memoryTree
	rule string
} {
	tree := memoryTree{}
	main := "include:\n"
	for i := range n {
		name := fmt.Sprintf("f%d.yml", i)
		tree[name], main = fmt.Sprintf("services: {s%d: {image: alpine}}", i), main+"- "+name+"\n"
	}
	tree["compose.yaml"] = main
	return struct {
		tree memoryTree
		rule string
	}{tree, "LIMIT"}
}

// dockerfiles gives each service a large Dockerfile of its own.
func dockerfiles(n int) struct {
	tree memoryTree
	rule string
} {
	tree := memoryTree{"compose.yaml": "services: {" + numbered(n, "s%[1]d: {build: {context: ., dockerfile: D%[1]d}}, ") + "}"}
	for i := range n {
		tree[fmt.Sprintf("D%d", i)] = fmt.Sprintf("FROM s%d\n", i) + numbered(4_000, "ADD x%d /y\\\n\n")
	}
	return struct {
		tree memoryTree
		rule string
	}{tree, "BUILD-DOCKERFILE"}
}

func portAliases(n int) string {
	b := strings.Builder{}
	b.WriteString("x-p: &p ['1000-1063:1000-1063']\nservices:\n")
	for i := range n {
		fmt.Fprintf(&b, "  s%d: {image: alpine, ports: *p}\n", i)
	}
	return b.String()
}

// includeTree includes two files that include the same two files, and so on.
func includeTree(levels int) memoryTree {
	tree := memoryTree{"compose.yaml": "include: [a0.yml, b0.yml]\n" + service}
	for i := range levels {
		for _, side := range []string{"a", "b"} {
			tree[fmt.Sprintf("%s%d.yml", side, i)] = fmt.Sprintf("include: [a%d.yml, b%d.yml]\n", i+1, i+1)
		}
	}
	tree[fmt.Sprintf("a%d.yml", levels)], tree[fmt.Sprintf("b%d.yml", levels)] = "services: {}\n", "services: {}\n"
	return tree
}
