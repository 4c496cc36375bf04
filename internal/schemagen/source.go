package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// A source is what the Go files of a package say and reflection cannot see.
type source struct {
	docs     map[string]string // comments, by "Type" and "Type.Field"
	words    map[string][]word // values of the string types that have constants, in order of declaration
	computed map[string]string // a constant whose value cannot be read, by type
	patterns map[string]string // arguments of regexp.MustCompile, by variable
}

// A word is one value of a vocabulary.
type word struct{ value, doc string }

// readSource reads the files of one package, tests excepted.
func readSource(dir string) (*source, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	s := &source{docs: map[string]string{}, words: map[string][]word{}, computed: map[string]string{}, patterns: map[string]string{}}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, d := range file.Decls {
			if gen, ok := d.(*ast.GenDecl); ok {
				s.declaration(gen)
			}
		}
	}
	return s, s.check()
}

// check refuses a vocabulary from which a value would be missing.
func (s *source) check() error {
	if len(s.docs) == 0 {
		return errors.New("no Go types found")
	}
	for t, name := range s.computed {
		if len(s.words[t]) > 0 {
			return fmt.Errorf("%s: write the value of this %s as text in quotes", name, t)
		}
	}
	return nil
}

func (s *source) declaration(gen *ast.GenDecl) {
	for _, spec := range gen.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			s.docs[spec.Name.Name] = plain(spec.Doc, gen.Doc)
			s.fields(spec)
		case *ast.ValueSpec:
			s.pattern(spec)
			if t, ok := spec.Type.(*ast.Ident); ok && gen.Tok == token.CONST {
				s.constants(t.Name, spec)
			}
		}
	}
}

func (s *source) fields(spec *ast.TypeSpec) {
	t, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range t.Fields.List {
		for _, name := range f.Names {
			s.docs[spec.Name.Name+"."+name.Name] = plain(f.Doc, f.Comment)
		}
	}
}

// constants notes those of a declared type.
func (s *source) constants(t string, spec *ast.ValueSpec) {
	for i, name := range spec.Names {
		value, ok := quoted(spec.Values[i])
		if !ok {
			s.computed[t] = name.Name
			continue
		}
		doc := strings.TrimPrefix(plain(spec.Doc, spec.Comment), name.Name+" ")
		s.words[t] = append(s.words[t], word{value, doc})
	}
}

func quoted(e ast.Expr) (string, bool) {
	literal, ok := e.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(literal.Value)
	return text, err == nil
}

func (s *source) pattern(spec *ast.ValueSpec) {
	for i, value := range spec.Values {
		call, ok := value.(*ast.CallExpr)
		if !ok || len(call.Args) != 1 {
			continue
		}
		f, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || f.Sel.Name != "MustCompile" {
			continue
		}
		if text, ok := quoted(call.Args[0]); ok {
			s.patterns[spec.Names[i].Name] = text
		}
	}
}

// plain returns the first comment there is as running text, one line a
// paragraph, without the brackets of Go's links.
func plain(groups ...*ast.CommentGroup) string {
	links := regexp.MustCompile(`\[\*?([A-Za-z][A-Za-z.]*)\]`)
	for _, g := range groups {
		if text := strings.TrimSpace(g.Text()); text != "" {
			var paragraphs []string
			for p := range strings.SplitSeq(text, "\n\n") {
				paragraphs = append(paragraphs, strings.Join(strings.Fields(p), " "))
			}
			return links.ReplaceAllString(strings.Join(paragraphs, "\n\n"), "$1")
		}
	}
	return ""
}
