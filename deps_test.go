package sandboxer_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sand-boxer/sandboxer"

// A listed package is what go list tells of one.
type listed struct {
	ImportPath                               string
	Standard                                 bool
	GoFiles                                  []string
	Imports, TestImports, XTestImports, Deps []string
}

func golist(t *testing.T, args ...string) []listed {
	t.Helper()
	var problem strings.Builder
	cmd := exec.Command("go", append([]string{"list", "-e", "-json=ImportPath,Standard,GoFiles,Imports,TestImports,XTestImports,Deps"}, args...)...)
	cmd.Stderr = &problem
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, problem.String())
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// The allowlist is a part of the profile that the proxy program shares; it is
// made of the standard library alone.
func TestRootImportsTheStandardLibraryAndYAML(t *testing.T) {
	var got []string
	for _, p := range golist(t, "-deps", ".") {
		if !p.Standard {
			got = append(got, p.ImportPath)
		}
	}
	slices.Sort(got)
	if want := []string{module, module + "/internal/allowlist", "gopkg.in/yaml.v3"}; !slices.Equal(got, want) {
		t.Errorf("the root package depends on %v, want only %v", got, want)
	}
}

func TestOnlyTheGeneratorImportsTheSchemaReflector(t *testing.T) {
	const reflector, generator = "github.com/invopop/jsonschema", module + "/internal/schemagen"
	found := false
	for _, p := range golist(t, "./...") {
		if !slices.Contains(slices.Concat(p.Imports, p.TestImports, p.XTestImports), reflector) {
			continue
		}
		if p.ImportPath == generator {
			found = true
			continue
		}
		t.Errorf("%s imports %s", p.ImportPath, reflector)
	}
	if !found {
		t.Errorf("%s does not import %s: this test looks for the wrong thing", generator, reflector)
	}
}

// Packages whose name ends in test are for tests; nothing else may bring
// package testing into a program.
func TestProgramsDoNotContainTestCode(t *testing.T) {
	for _, p := range golist(t, "./...") {
		if strings.HasSuffix(p.ImportPath, "test") || len(p.GoFiles) == 0 {
			continue
		}
		if slices.Contains(p.Deps, "testing") {
			t.Errorf("%s depends on package testing", p.ImportPath)
		}
	}
}

func TestNothingHappensAtImport(t *testing.T) {
	files := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() != "." && strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go"):
			return nil
		}
		files++
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has an init function", path)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if files < 30 {
		t.Errorf("only %d files were looked at", files)
	}
}
