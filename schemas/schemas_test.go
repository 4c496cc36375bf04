package schemas_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/examples/sandbox/doctor"
	"github.com/sand-boxer/sandboxer/schemas"
	"github.com/sand-boxer/sandboxer/secrets"
	"github.com/sand-boxer/sandboxer/statehub"
)

// published says which Go type each schema stands for.
func published() map[string]reflect.Type {
	return map[string]reflect.Type{
		"profile":          reflect.TypeFor[sandboxer.Profile](),
		"extension":        reflect.TypeFor[sandboxer.ExtensionInfo](),
		"create-request":   reflect.TypeFor[sandboxer.CreateRequest](),
		"hosts":            reflect.TypeFor[compose.HostsFile](),
		"hub":              reflect.TypeFor[statehub.Config](),
		"secrets":          reflect.TypeFor[secrets.Config](),
		"undelivered":      reflect.TypeFor[sandboxer.Undelivered](),
		"sandbox":          reflect.TypeFor[sandboxer.Sandbox](),
		"sandbox-list":     reflect.TypeFor[[]sandboxer.Sandbox](),
		"event":            reflect.TypeFor[sandboxer.Event](),
		"plan":             reflect.TypeFor[sandboxer.Plan](),
		"report":           reflect.TypeFor[sandboxer.Report](),
		"host-status":      reflect.TypeFor[sandboxer.HostStatus](),
		"host-status-list": reflect.TypeFor[[]sandboxer.HostStatus](),
		"meter":            reflect.TypeFor[sandboxer.Meter](),
		"meter-list":       reflect.TypeFor[[]sandboxer.Meter](),
		"profile-list":     reflect.TypeFor[[]sandboxer.Profile](),
		"diagnosis":        reflect.TypeFor[doctor.Diagnosis](),
		"extension-list":   reflect.TypeFor[[]sandboxer.ExtensionInfo](),
	}
}

// inputs are the closed documents.
func inputs() []string {
	return []string{"profile", "extension", "create-request", "hosts", "hub", "secrets"}
}

const base = "https://github.com/sand-boxer/sandboxer/schemas/"

// compile returns a published schema, or the part of it that a fragment such
// as "#/$defs/Duration" names. Formats are checked.
func compile(t testing.TB, name, fragment string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(base+name+".schema.json", tree(t, name)); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(base + name + ".schema.json" + fragment)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tree(t testing.TB, name string) map[string]any {
	t.Helper()
	text, err := schemas.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return v.(map[string]any)
}

// instance turns a Go value into what a validator takes, by way of its JSON.
func instance(t testing.TB, v any) any {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func fromYAML(t testing.TB, text []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return instance(t, v)
}

func TestNames(t *testing.T) {
	if diff := cmp.Diff(slices.Sorted(maps.Keys(published())), schemas.Names()); diff != "" {
		t.Error(diff)
	}
	files, err := fs.Glob(schemas.FS(), "*")
	if err != nil || len(files) != len(schemas.Names()) {
		t.Errorf("embedded are %q, %v", files, err)
	}
	_, err = schemas.Get("profil")
	if !errors.Is(err, sandboxer.ErrNotFound) || err.Error() != `schema "profil": not found` || !strings.HasPrefix(sandboxer.Hint(err), "there are: create-request, diagnosis, event, ") {
		t.Errorf("got %v (%s)", err, sandboxer.Hint(err))
	}
}

// Every file is a valid schema of the stated draft, says who it is and what
// it is for, and uses no keywords of its own.
func TestSchemasAreWellFormed(t *testing.T) {
	for _, name := range schemas.Names() {
		t.Run(name, func(t *testing.T) {
			compile(t, name, "")
			root := tree(t, name)
			if root["$schema"] != "https://json-schema.org/draft/2020-12/schema" || root["$id"] != base+name+".schema.json" {
				t.Errorf("$schema %v, $id %v", root["$schema"], root["$id"])
			}
			if root["title"] == "" || root["description"] == "" {
				t.Error("has no title or description")
			}
			text, err := schemas.Get(name)
			if err != nil || !bytes.HasSuffix(text, []byte("}\n")) {
				t.Errorf("ends in %q, %v", text[len(text)-2:], err)
			}
			if bytes.Contains(text, []byte(`"x-`)) {
				t.Error("has a key of its own")
			}
		})
	}
}

// A mistyped key is found in what people write; what sandboxer writes may grow.
func TestInputsAreClosedAndOutputsOpen(t *testing.T) {
	for _, name := range schemas.Names() {
		closed := slices.Contains(inputs(), name)
		objects(tree(t, name), func(path string, object map[string]any) {
			if more, ok := object["additionalProperties"]; closed && (!ok || more != false) || !closed && ok {
				t.Errorf("%s%s: additionalProperties is %v", name, path, more)
			}
		})
	}
}

// objects calls f for every object with properties in a schema.
func objects(schema any, f func(path string, object map[string]any)) {
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case []any:
			for _, item := range v {
				walk(path, item)
			}
		case map[string]any:
			if _, ok := v["properties"].(map[string]any); ok && v["type"] == "object" {
				f(path, v)
			}
			for key, part := range v {
				walk(path+"/"+key, part)
			}
		}
	}
	walk("", schema)
}

// What is shipped is valid, and an editor that opens it finds the schema.
func TestShippedDocumentsAreValid(t *testing.T) {
	editorLine := regexp.MustCompile(`^# yaml-language-server: \$schema=(\S+)\n`)
	for pattern, name := range map[string]string{
		"../profiles/*.yaml": "profile", "../extensions/*.yaml": "extension", "testdata/hosts.yaml": "hosts",
	} {
		paths, err := filepath.Glob(filepath.FromSlash(pattern))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: nothing there, %v", pattern, err)
		}
		for _, path := range paths {
			t.Run(path, func(t *testing.T) {
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := compile(t, name, "").Validate(fromYAML(t, text)); err != nil {
					t.Error(err)
				}
				if err := load(t, name, text); err != nil {
					t.Error(err)
				}
				line := editorLine.FindSubmatch(text)
				if line == nil {
					t.Fatal("the first line does not name the schema for editors")
				}
				target := filepath.Join(filepath.Dir(path), filepath.FromSlash(string(line[1])))
				if _, err := os.Stat(target); err != nil || filepath.Base(target) != name+".schema.json" {
					t.Errorf("editors are sent to %s, %v", target, err)
				}
			})
		}
	}
}

// load reads a document the way the library does.
func load(t testing.TB, name string, text []byte) error {
	t.Helper()
	switch name {
	case "profile":
		_, err := sandboxer.ParseProfile(name, text)
		return err
	case "extension":
		_, err := sandboxer.ParseManifest(name, text)
		return err
	case "hosts":
		_, err := compose.ParseHosts(name, text)
		return err
	case "secrets":
		_, err := secrets.ParseConfig("secrets.yaml", text)
		return err
	case "hub":
		_, err := statehub.ParseConfig(name, text)
		return err
	case "create-request":
		var req sandboxer.CreateRequest
		if err := sandboxer.DecodeStrict(name, text, &req); err != nil {
			return err
		}
		_, err := newWorld(t).client.Plan(t.Context(), req, sandboxer.PlanOptions{})
		return err
	}
	t.Fatalf("%s is not read", name)
	return nil
}
