package sandboxer_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMainTypesHaveExamples: each is shown in use, with what that prints.
func TestMainTypesHaveExamples(t *testing.T) {
	declared, shown := typesOf(t, "."), examplesOf(t, ".")
	for _, name := range []string{
		"Client", "Error", "Event", "EventSink", "Extension", "Host", "MemoryStore", "Meter", "Profile", "Registry", "Route",
		"Sandbox", "SecretResolver", "Store",
	} {
		if !slices.Contains(declared, name) {
			t.Errorf("there is no type %s", name)
		}
		if !slices.ContainsFunc(shown, func(e string) bool { return e == name || strings.HasPrefix(e, name+"_") }) {
			t.Errorf("no example shows %s", name)
		}
	}
}

// TestPackagesHaveExamples: every package that programs import has one.
func TestPackagesHaveExamples(t *testing.T) {
	seen := 0
	for _, p := range golist(t, "./...") {
		dir := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		if strings.Contains("/"+dir+"/", "/internal/") || strings.HasPrefix(dir, "examples/") || strings.HasPrefix(dir, "testdata/") || strings.Contains(dir, "/testdata/") || len(p.GoFiles) == 0 {
			continue
		}
		seen++
		if len(examplesOf(t, filepath.Join(".", dir))) == 0 {
			t.Errorf("package %s has no example with its output", p.ImportPath)
		}
	}
	if seen < 9 {
		t.Errorf("found only %d packages", seen)
	}
}

// examplesOf a directory are the names of those whose output is compared.
func examplesOf(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	for _, e := range doc.Examples(filesOf(t, filepath.Join(dir, "*_test.go"))...) {
		if e.Output != "" || e.EmptyOutput {
			names = append(names, e.Name)
		}
	}
	return names
}

// typesOf a directory are the names of its exported types.
func typesOf(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	for _, file := range filesOf(t, filepath.Join(dir, "*.go")) {
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.IsExported() {
				names = append(names, spec.Name.Name)
			}
			return true
		})
	}
	return names
}

func filesOf(t *testing.T, pattern string) []*ast.File {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}
