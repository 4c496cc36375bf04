package schemas_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sand-boxer/sandboxer"
)

// Every field of every struct is a property and the other way round, with the
// right type, and required exactly if it is always written.
func TestPropertiesAreTheFields(t *testing.T) {
	for name, typ := range published() {
		root := tree(t, name)
		c := comparison{root: root, closed: slices.Contains(inputs(), name), seen: map[reflect.Type]bool{}}
		c.value(name, typ, root)
		for _, p := range c.problems {
			t.Error(p)
		}
	}
}

type comparison struct {
	root     map[string]any
	closed   bool
	seen     map[reflect.Type]bool
	problems []string
}

func (c *comparison) bad(path, format string, args ...any) {
	c.problems = append(c.problems, path+": "+fmt.Sprintf(format, args...))
}

// resolve follows references, and the way past the null that a Go list may be.
func (c *comparison) resolve(node map[string]any) map[string]any {
	if ref, ok := node["$ref"].(string); ok {
		return c.resolve(c.root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any))
	}
	if choices := anys(node["anyOf"]); len(choices) > 0 {
		return c.resolve(choices[0].(map[string]any))
	}
	return node
}

func (c *comparison) value(path string, t reflect.Type, node map[string]any) {
	node = c.resolve(node)
	want := ""
	switch {
	case t == reflect.TypeFor[json.RawMessage]():
		if strings.HasSuffix(path, ".config") {
			want = "object"
		}
	case t == reflect.TypeFor[sandboxer.Duration](), t == reflect.TypeFor[sandboxer.Bytes]():
		want = "string"
		if node["pattern"] == nil {
			c.bad(path, "has no pattern")
		}
	case t == reflect.TypeFor[time.Time]():
		want = "string"
		if node["format"] != "date-time" {
			c.bad(path, "has format %v", node["format"])
		}
	case t.Kind() == reflect.Pointer:
		c.value(path, t.Elem(), node)
		return
	case t.Kind() == reflect.Struct:
		want = "object"
		c.object(path, t, node)
	case t.Kind() == reflect.Slice:
		want = "array"
		c.value(path+"[]", t.Elem(), node["items"].(map[string]any))
	case t.Kind() == reflect.Map:
		want = "object"
		c.value(path+".*", t.Elem(), node["additionalProperties"].(map[string]any))
	case t.Kind() == reflect.Bool:
		want = "boolean"
	case t.Kind() == reflect.Float64:
		want = "number"
	case t.Kind() == reflect.String:
		want = "string"
	default:
		want = "integer"
	}
	if got, _ := node["type"].(string); got != want {
		c.bad(path, "has type %q, want %q", got, want)
	}
}

func (c *comparison) object(path string, t reflect.Type, node map[string]any) {
	if c.seen[t] {
		return
	}
	c.seen[t] = true
	properties, _ := node["properties"].(map[string]any)
	required := map[string]bool{}
	for _, name := range anys(node["required"]) {
		required[name.(string)] = true
	}
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" || c.closed && t == reflect.TypeFor[sandboxer.ExtensionInfo]() && name == "hosts" {
			continue
		}
		property, ok := properties[name].(map[string]any)
		if !ok {
			c.bad(path, "has no %s", name)
			continue
		}
		delete(properties, name)
		c.value(path+"."+name, f.Type, property)
		always := options == "" || c.closed && t == reflect.TypeFor[sandboxer.Profile]() && name == "inputs"
		if required[name] != always {
			c.bad(path+"."+name, "required is %v, want %v", required[name], always)
		}
	}
	for name := range properties {
		c.bad(path, "has %s, which is no field", name)
	}
}

func anys(v any) []any {
	list, _ := v.([]any)
	return list
}

// The vocabularies are those of the constants, in inputs and in outputs.
func TestVocabularies(t *testing.T) {
	tests := []struct {
		schema, name string
		want         []any
	}{
		{"profile", "Egress", values(sandboxer.EgressDeny, sandboxer.EgressAllowlist, sandboxer.EgressAllow)},
		{"profile", "Isolation", values(sandboxer.IsolationContainer, sandboxer.IsolationGVisor, sandboxer.IsolationVM)},
		{"profile", "Policy", values(sandboxer.PolicyExplicit, sandboxer.PolicyPreferSelfHosted, sandboxer.PolicyLowestCost)},
		{"profile", "Scope", values(sandboxer.ScopeRun, sandboxer.ScopeSession, sandboxer.ScopeProject)},
		{"profile", "WorkspaceMode", values(sandboxer.WorkspaceUpload)},
		{"extension", "PricingModel", values(sandboxer.PricingSelfHosted, sandboxer.PricingMetered)},
		{"create-request", "ActorType", values(sandboxer.ActorAdmin, sandboxer.ActorAgent, sandboxer.ActorAutomation)},
		{"sandbox", "ControlLevel", values(sandboxer.Enforced, sandboxer.Advisory, sandboxer.Unsupported)},
		{"sandbox", "Presence", values(sandboxer.Present, sandboxer.Absent, sandboxer.Unknown)},
		{"sandbox", "State", values(sandboxer.States()...)},
		{"event", "State", values(sandboxer.States()...)},
		{"plan", "Verdict", values(sandboxer.Allow, sandboxer.Deny)},
	}
	for _, test := range tests {
		t.Run(test.schema+" "+test.name, func(t *testing.T) {
			c := comparison{root: tree(t, test.schema)}
			node := c.resolve(map[string]any{"$ref": "#/$defs/" + test.name})
			if diff := cmp.Diff(test.want, node["enum"]); diff != "" {
				t.Error(diff)
			}
			err := compile(t, test.schema, "#/$defs/"+test.name).Validate("something new")
			if closed := slices.Contains(inputs(), test.schema); (err != nil) != closed {
				t.Errorf("an unknown value: %v", err)
			}
		})
	}
}

func values[T ~string](all ...T) []any {
	out := make([]any, len(all))
	for i, v := range all {
		out[i] = string(v)
	}
	return out
}

// A word that is described in the source is described in the schema.
func TestDescriptions(t *testing.T) {
	root := tree(t, "sandbox")
	definitions := root["$defs"].(map[string]any)
	for path, want := range map[string]string{
		"State":      "lost: host unreachable, or gone without us; may come back",
		"Reason":     "verified_absent: the backend was asked and holds nothing",
		"Policy":     "lowest-cost: sorts by estimated cost; unknown cost comes last.",
		"Removal":    "A Removal is the evidence of a teardown.",
		"Candidate":  "A Candidate is one host that was considered.",
		"Resources":  "Resources are the caps of every container; the sum is the sandbox's own affair.",
		"Rewrite":    "A Rewrite is one thing that runs otherwise than the workspace says, so that it can run beside others.",
		"Violation":  "A Violation is one thing a workspace asks for and may not have.",
		"Visibility": "",
	} {
		definition, _ := definitions[path].(map[string]any)
		about, _ := definition["description"].(string)
		if want == "" && definition != nil || !strings.Contains(about, want) {
			t.Errorf("%s: %q does not say %q", path, about, want)
		}
	}
}

func durations() []string {
	return []string{
		"0", "+0", "-0", "0s", "30m", "1h30m", "1h30m0s", "90s", "1.5h", ".5s", "5.s", "-5m", "+5m", "1h5ms", "5ms3m", "1ns", "1us", "1µs", "1μs",
		"2562047h47m16.854775807s", "00000000000000000000001s", "0.00000000000000000000000001s",
		"", "-", "+", ".", "s", ".s", "-.s", "5", "5.5", "05", "1 h", " 1h", "1h ", "1h\n", "1d", "1H", "1h-5m", "1h+5m", "1.5.5s", "1,5h", "1e3s", "0x1s", "1msm", "--1s", "00", "0.", "½h", "١s",
		"9223372036854775808ns", "2562047h47m16.854775808s", "-9223372036854775808ns", "-9223372036854775809ns", "99999999999999999999h",
	}
}

// A duration is accepted by an editor exactly if it is by the library; only
// what does not fit into 64 bits is beyond a pattern.
func TestDurationsAgree(t *testing.T) {
	for _, name := range []string{"profile", "event"} {
		schema := compile(t, name, "#/$defs/Duration")
		for _, text := range durations() {
			durationAgrees(t, schema, text)
		}
	}
	for _, d := range []time.Duration{0, 1, -1, time.Microsecond, 1500 * time.Millisecond, time.Minute, time.Hour, 90 * time.Minute, 1<<63 - 1, -1 << 63} {
		if err := compile(t, "event", "#/$defs/Duration").Validate(instance(t, sandboxer.Duration(d))); err != nil {
			t.Errorf("%v: %v", d, err)
		}
	}
}

func FuzzDurationsAgree(f *testing.F) {
	for _, text := range durations() {
		f.Add(text)
	}
	schema := compile(f, "profile", "#/$defs/Duration")
	f.Fuzz(func(t *testing.T, text string) {
		if utf8.ValidString(text) {
			durationAgrees(t, schema, text)
		}
	})
}

func durationAgrees(t *testing.T, schema *jsonschema.Schema, text string) {
	t.Helper()
	var d sandboxer.Duration
	refused := d.UnmarshalText([]byte(text))
	invalid := schema.Validate(text)
	if refused != nil && invalid == nil && nanoseconds(text).Cmp(new(big.Rat).SetUint64(1<<63-1)) > 0 {
		return
	}
	if (refused == nil) != (invalid == nil) {
		t.Errorf("%q: the library says %v, the schema %v", text, refused, invalid)
	}
}

// nanoseconds adds up a text of the right form without bounds.
func nanoseconds(text string) *big.Rat {
	units := map[string]int64{"ns": 1, "us": 1e3, "µs": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9}
	sum := new(big.Rat)
	for _, part := range regexp.MustCompile(`([0-9]*\.?[0-9]*)([a-zµμ]+)`).FindAllStringSubmatch(text, -1) {
		number, ok := new(big.Rat).SetString(strings.TrimSuffix("0"+part[1], "."))
		if ok {
			sum.Add(sum, number.Mul(number, big.NewRat(units[part[2]], 1)))
		}
	}
	return sum
}

func amounts() []string {
	return []string{
		"0", "1", "512Mi", "2Gi", "1Ki", "1Ti", "0Ki", "+5Mi", "007", "9223372036854775807", "8388607Ti",
		"", "Mi", "-1", "-1Mi", "1.5Gi", "512MB", "512M", "512mi", "512 Mi", "1Pi", "1MiMi", "1_000", "0x10", " 1", "1\n", "١", "9223372036854775808", "8388608Ti",
	}
}

func TestAmountsAgree(t *testing.T) {
	schema := compile(t, "profile", "#/$defs/Bytes")
	for _, text := range amounts() {
		amountAgrees(t, schema, text)
	}
	for _, b := range []sandboxer.Bytes{0, 1, 1023, 1 << 10, 1<<40 + 1, 1 << 62} {
		if err := compile(t, "sandbox", "#/$defs/Bytes").Validate(instance(t, b)); err != nil {
			t.Errorf("%d: %v", b, err)
		}
		if err := schema.Validate(json.Number(strconv.FormatInt(int64(b), 10))); err != nil {
			t.Errorf("%d as a number: %v", b, err)
		}
	}
}

func FuzzAmountsAgree(f *testing.F) {
	for _, text := range amounts() {
		f.Add(text)
	}
	schema := compile(f, "profile", "#/$defs/Bytes")
	f.Fuzz(func(t *testing.T, text string) {
		if utf8.ValidString(text) {
			amountAgrees(t, schema, text)
		}
	})
}

func amountAgrees(t *testing.T, schema *jsonschema.Schema, text string) {
	t.Helper()
	var b sandboxer.Bytes
	refused := b.UnmarshalText([]byte(text))
	invalid := schema.Validate(text)
	if strings.HasPrefix(text, "-0") {
		return // the parser's zero with a sign is nothing to write
	}
	if refused != nil && invalid == nil {
		n, _ := new(big.Int).SetString(strings.TrimRight(text, "KMGTi"), 10)
		units := map[byte]uint{'K': 10, 'M': 20, 'G': 30, 'T': 40}
		if len(text) > 1 {
			n.Lsh(n, units[text[len(text)-2]])
		}
		if n.BitLen() > 63 {
			return
		}
	}
	if (refused == nil) != (invalid == nil) {
		t.Errorf("%q: the library says %v, the schema %v", text, refused, invalid)
	}
}
