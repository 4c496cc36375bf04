package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

const moduleRoot = "../.."

// The published files must be what the generator makes of the structs as they
// are now: nothing else, nothing missing, nothing edited by hand.
func TestPublishedSchemasAreCurrent(t *testing.T) {
	g, err := newGenerator(moduleRoot)
	if err != nil {
		t.Fatal(err)
	}
	want, err := g.generate()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(moduleRoot, "schemas")
	for name, text := range want {
		published, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Errorf("%s is not published: run go generate ./schemas", name)
			continue
		}
		if diff := cmp.Diff(string(published), string(text)); diff != "" {
			t.Errorf("%s is not what the structs say: run go generate ./schemas\n%s", name, diff)
		}
	}
	published, err := filepath.Glob(filepath.Join(dir, "*.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range published {
		if _, ok := want[filepath.Base(path)]; !ok {
			t.Errorf("%s comes from no struct: remove it", path)
		}
	}
}

func TestWriteCreatesEveryFile(t *testing.T) {
	out := t.TempDir()
	if err := write(moduleRoot, out); err != nil {
		t.Fatal(err)
	}
	written, err := filepath.Glob(filepath.Join(out, "*"))
	if err != nil || len(written) != len(documents()) {
		t.Errorf("%d files for %d documents, %v", len(written), len(documents()), err)
	}
}

func TestARuleForNothingIsAnError(t *testing.T) {
	g, err := newGenerator(moduleRoot)
	if err != nil {
		t.Fatal(err)
	}
	g.ruled["Profile.Gone"] = notEmpty
	if _, err := g.generate(); err == nil || err.Error() != "there is a rule for Profile.Gone, which no document has" {
		t.Errorf("got %v", err)
	}
}

func TestAnExpressionThatIsGoneIsAnError(t *testing.T) {
	g, err := newGenerator(moduleRoot)
	if err != nil {
		t.Fatal(err)
	}
	delete(g.sources[modulePath].patterns, "profileID")
	if _, err := g.rules(); err == nil || err.Error() != "no such regular expression: "+modulePath+".profileID" {
		t.Errorf("got %v", err)
	}
}

func TestReadSource(t *testing.T) {
	s, err := readSource(packageOf(t, `package shapes

import "regexp"

// A Shape is a [Form] of *some* kind,
// see [Form.Area].
//
// It has corners.
type Shape struct {
	// Corners are counted.
	Corners int
	Color   Color // from [*Palette]
}

// Color is what it looks like.
type Color string

// The colors.
const (
	Red Color = "red" // warm
	// Blue is cold.
	Blue Color = "blue"
	Grey, White Color = "grey", "white"
)

const (
	untyped       = "no color"
	Size    Count = 3 * untold
)

var name, other = regexp.MustCompile("^[a-z]+$"), regexp.MustCompile(untyped)
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &source{
		docs: map[string]string{
			"Shape":         "A Shape is a Form of *some* kind, see Form.Area.\n\nIt has corners.",
			"Shape.Corners": "Corners are counted.",
			"Shape.Color":   "from Palette",
			"Color":         "Color is what it looks like.",
		},
		words: map[string][]word{
			"Color": {{"red", "warm"}, {"blue", "is cold."}, {"grey", ""}, {"white", ""}},
		},
		computed: map[string]string{"Count": "Size"},
		patterns: map[string]string{"name": "^[a-z]+$"},
	}
	if diff := cmp.Diff(want, s, cmp.AllowUnexported(source{}, word{})); diff != "" {
		t.Error(diff)
	}
}

// A constant that the generator cannot read must not be left out quietly.
func TestReadSourceRefuses(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"a computed value before another", "package p\n\ntype T string\n\nconst (\n\tA T = \"b\" + \"c\"\n\tB T = \"a\"\n)\n",
			"A: write the value of this T as text in quotes"},
		{"no types", "package p\n", "no Go types found"},
		{"no Go", "packet p\n", "expected 'package'"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := readSource(packageOf(t, test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func packageOf(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p.go"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPublishedOpenAPIIsCurrent(t *testing.T) {
	g, err := newGenerator(moduleRoot)
	if err != nil {
		t.Fatal(err)
	}
	want, err := g.openAPI()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(api.OpenAPI()), string(want)); diff != "" {
		t.Errorf("the OpenAPI document is not what the table of operations says: run go generate ./examples/sandboxd/api\n%s", diff)
	}
}
