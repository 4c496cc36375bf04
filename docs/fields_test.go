package docs_test

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
)

// TestResponses: the tables of what consumers use of a sandbox name fields that
// it has, at the places where it has them.
func TestResponses(t *testing.T) {
	for _, page := range []string{"integrations/glas-harness.md", "integrations/wise-validator.md", "integrations/snuggle-inventor.md"} {
		fields := responseFields(t, page)
		if len(fields) < 5 {
			t.Errorf("%s: found only the fields %q", page, fields)
		}
		for _, path := range fields {
			if _, problem := fieldAt(reflect.TypeFor[sandboxer.Sandbox](), path); problem != "" {
				t.Errorf("%s: `%s`: %s", page, path, problem)
			}
		}
	}
}

// responseFields are the paths in the first column of the table of a page's
// section "Response". One that begins with a dot lies beside the one before it.
// What is in lower case is a value that is looked for.
func responseFields(t *testing.T, page string) []string {
	t.Helper()
	_, text, ok := strings.Cut(read(t, page), "\n## Response\n")
	if !ok {
		t.Fatalf("%s has no section Response", page)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var all []string
	for line := range strings.Lines(text) {
		column, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		before := ""
		for _, m := range regexp.MustCompile("`([A-Z.][^`]*)`").FindAllStringSubmatch(column, -1) {
			path := m[1]
			if strings.HasPrefix(path, ".") {
				path = before[:strings.LastIndex(before, ".")] + path
			}
			all, before = append(all, path), path
		}
	}
	return all
}

// fieldAt follows a path such as Reachability.Services[].Name from a type.
func fieldAt(from reflect.Type, path string) (at reflect.Type, problem string) {
	at = from
	for step := range strings.SplitSeq(path, ".") {
		name, isList := strings.CutSuffix(step, "[]")
		if at.Kind() == reflect.Pointer {
			at = at.Elem()
		}
		if at.Kind() != reflect.Struct {
			return nil, at.String() + " has no fields"
		}
		field, ok := at.FieldByName(name)
		if !ok {
			return nil, at.String() + " has no field " + name
		}
		if at = field.Type; isList {
			if at.Kind() != reflect.Slice {
				return nil, name + " is no list"
			}
			at = at.Elem()
		}
	}
	return at, ""
}

// TestFieldAt: what there is not is found missing.
func TestFieldAt(t *testing.T) {
	for path, want := range map[string]string{
		"ID":                            "",
		"Reachability.Services[].Ports": "",
		"Removal.VerifiedAt":            "",
		"Removal.Verified":              "sandboxer.Removal has no field Verified",
		"Reachability.Services.Name":    "[]sandboxer.Service has no fields",
		"Host[]":                        "Host is no list",
		"Host.Name":                     "string has no fields",
	} {
		if _, got := fieldAt(reflect.TypeFor[sandboxer.Sandbox](), path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
