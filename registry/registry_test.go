// Package registry_test checks the entries for the reuse registry: that they
// are whole, and that what they promise exists.
package registry_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/sand-boxer/sandboxer/extensions"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/profiles"
	"github.com/sand-boxer/sandboxer/schemas"
)

// A row of the index.
type row struct {
	ID     string `yaml:"id"`
	Title  string `yaml:"title"`
	Domain string `yaml:"domain"`
	Repo   string `yaml:"repo"`
	Path   string `yaml:"path"`
	Status string `yaml:"status"`
}

// A capability is the front matter of a page.
type capability struct {
	ID         string   `yaml:"id"`
	Type       string   `yaml:"type"`
	Title      string   `yaml:"title"`
	Domain     string   `yaml:"domain"`
	Repo       string   `yaml:"repo"`
	Status     string   `yaml:"status"`
	Owner      string   `yaml:"owner"`
	Workplan   string   `yaml:"workplan"`
	Interfaces []face   `yaml:"interfaces"`
	Consumers  []string `yaml:"consumers"`
}

type face struct {
	Kind    string   `yaml:"kind"`
	Name    string   `yaml:"name"`
	Members []string `yaml:"members"`
}

func strict(t *testing.T, name string, text []byte, v any) {
	t.Helper()
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// capabilities are the pages, by file name.
func capabilities(t *testing.T) map[string]capability {
	t.Helper()
	files, err := filepath.Glob("capabilities/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("no capabilities: %v", err)
	}
	all := map[string]capability{}
	for _, file := range files {
		front, _, ok := strings.Cut(strings.TrimPrefix(string(read(t, file)), "---\n"), "\n---\n")
		if !ok {
			t.Fatalf("%s has no front matter", file)
		}
		var c capability
		strict(t, file, []byte(front), &c)
		all[file] = c
	}
	return all
}

// TestIndex: one row for each page and one page for each row, saying the same.
func TestIndex(t *testing.T) {
	var index struct {
		Capabilities []row `yaml:"capabilities"`
	}
	strict(t, "capabilities.yaml", read(t, "indexes/capabilities.yaml"), &index)
	pages := capabilities(t)
	seen := map[string]bool{}
	for _, r := range index.Capabilities {
		file := strings.TrimPrefix(r.Path, "registry/")
		c, ok := pages[file]
		if !ok || seen[r.ID] {
			t.Errorf("row %s: %s is no page, or stands there twice", r.ID, r.Path)
			continue
		}
		seen[r.ID] = true
		if want := (row{c.ID, c.Title, c.Domain, c.Repo, r.Path, c.Status}); r != want {
			t.Errorf("row %+v, and the page says %+v", r, want)
		}
	}
	for file, c := range pages {
		if !seen[c.ID] {
			t.Errorf("%s has no row", file)
		}
	}
}

// TestFrontMatter: whole, of this repository, named as its file is.
func TestFrontMatter(t *testing.T) {
	for file, c := range capabilities(t) {
		if want := "capability." + strings.TrimSuffix(filepath.Base(file), ".md"); c.ID != want {
			t.Errorf("%s: id %s, want %s", file, c.ID, want)
		}
		if c.Type != "capability" || c.Domain != "infotech" || c.Repo != "sand-boxer" {
			t.Errorf("%s: type %q, domain %q, repo %q", file, c.Type, c.Domain, c.Repo)
		}
		for key, value := range map[string]string{"title": c.Title, "owner": c.Owner, "status": c.Status, "workplan": c.Workplan} {
			if value == "" {
				t.Errorf("%s: %s is missing", file, key)
			}
		}
		if len(c.Interfaces) == 0 || len(c.Consumers) == 0 {
			t.Errorf("%s names no interfaces or no consumers", file)
		}
		for _, consumer := range c.Consumers {
			if _, err := os.Stat("../docs/integrations/" + consumer + ".md"); err != nil {
				t.Errorf("%s: consumer %s has no page: %v", file, consumer, err)
			}
		}
	}
}

// TestInterfacesExist: what a capability names can be called, loaded or read.
func TestInterfacesExist(t *testing.T) {
	for file, c := range capabilities(t) {
		for _, f := range c.Interfaces {
			for _, problem := range missing(t, f) {
				t.Errorf("%s: %s %s: %s", file, f.Kind, f.Name, problem)
			}
		}
	}
}

// missing lists what of an interface there is not.
func missing(t *testing.T, f face) (problems []string) {
	t.Helper()
	var known []string
	switch f.Kind {
	case "go":
		known = exported(t, filepath.Join("..", strings.TrimPrefix(f.Name, "github.com/sand-boxer/sandboxer")))
	case "cli":
		known = commands(t, f.Name)
	case "profile":
		all, err := profiles.Load()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			known = append(known, p.ID)
		}
		f.Members = []string{f.Name}
	case "extension":
		info, err := extensions.Manifest(f.Name)
		if err != nil {
			return []string{err.Error()}
		}
		known, f.Members = []string{info.ID}, []string{f.Name}
	case "schema":
		known, f.Members = schemas.Names(), []string{f.Name}
	default:
		return []string{"is of no kind that is known"}
	}
	if len(f.Members) == 0 {
		return []string{"has no members"}
	}
	for _, member := range f.Members {
		if !slices.Contains(known, member) {
			problems = append(problems, "there is no "+member)
		}
	}
	return problems
}

// exported are the functions of a package and the methods of its types, as T.M.
func exported(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || !f.Name.IsExported() {
				continue
			}
			name := f.Name.Name
			if f.Recv != nil {
				receiver := f.Recv.List[0].Type
				if star, ok := receiver.(*ast.StarExpr); ok {
					receiver = star.X
				}
				if ident, ok := receiver.(*ast.Ident); ok {
					name = ident.Name + "." + name
				}
			}
			all = append(all, name)
		}
	}
	return all
}

// commands are those that an example program lists in its own help.
func commands(t *testing.T, program string) []string {
	t.Helper()
	out, err := exec.Command(hosttest.Program(t, "examples/"+program), "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+) +\S`).FindAllStringSubmatch(string(out), -1) {
		all = append(all, m[1])
	}
	return all
}
