package admission

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxFiles bounds what one compose file pulls in.
const maxFiles = 128

// files is the compose file and everything it includes and extends.
//
// compose-go opens such files itself, by whatever path the text gives it. So
// every reference is resolved here first, in the tree alone, and replaced by
// the absolute path of a copy below root, where nothing else is: no text of
// the repository decides what is opened. [files.write] puts the copies there.
type files struct {
	tree       Tree
	report     *report
	err        error  // what kept the tree from being read
	root       string // a directory of our own on this machine
	projectDir string // of the compose file, in the tree
	hasPWD     bool   // whether the profile declares a variable of that name

	envs     *envFiles
	sources  []*source          // all of them, the compose file first
	bases    map[string]*source // those that services extend, by path
	copies   map[string]*copied // what is written, by path below root
	resolved map[*yaml.Node]bool
	followed map[[2]string]bool
	nodes    int
}

// copied is a file below root.
type copied struct {
	of      string  // the file of the tree it stands for
	content *source // or
	bytes   []byte
}

// keys are the keys of all mappings, in the parts that a path has of them.
func (f *files) keys() map[string]bool {
	keys := map[string]bool{}
	var walk func(*yaml.Node)
	walk = func(n *yaml.Node) {
		for i, c := range n.Content {
			if n.Kind == yaml.MappingNode && i%2 == 0 {
				for part := range strings.SplitSeq(target(c).Value, ".") {
					keys[part] = true
				}
			}
			walk(c)
		}
	}
	for _, s := range f.sources {
		walk(s.root)
	}
	return keys
}

// collect parses the compose file and all it refers to. The result is nil
// if the compose file itself cannot be read.
func (f *files) collect(file string, env map[string]string) *source {
	f.bases, f.copies = map[string]*source{}, map[string]*copied{}
	f.resolved, f.followed = map[*yaml.Node]bool{}, map[[2]string]bool{}
	s := f.open(file, nil)
	if s == nil {
		return nil
	}
	f.prepare(s, f.projectDir, env, []string{file})
	for p, base := range f.bases {
		f.dropUnused(p, base)
	}
	if weight := f.weight(); weight.excess() != "" {
		f.report.denyAt("YAML-BOMB", nil, place{file, 1}, weight.excess())
		return nil
	}
	return s
}

// weight is how much the files hold when aliases and extends are replaced.
func (f *files) weight() (total extent) {
	known := map[*yaml.Node]extent{}
	for _, s := range f.sources {
		total.add(*s.extents[s.root])
		for _, c := range children(get(s.root, "services").value) {
			total.add(f.inherited(s, target(c.value), known))
		}
	}
	return total
}

// inherited is how much a service gets from what it extends.
func (f *files) inherited(s *source, body *yaml.Node, known map[*yaml.Node]extent) (all extent) {
	if e, ok := known[body]; ok {
		return e
	}
	known[body] = extent{} // for one that leads back here
	base, name := f.base(s, body)
	other := target(get(get(base.root, "services").value, name).value)
	if name == "" || other == nil {
		return extent{}
	}
	all = f.inherited(base, other, known)
	if e := base.extents[other]; e != nil {
		all.add(*e)
	}
	known[body] = all
	return all
}

// base finds what a service extends; the name is empty if it is nothing.
func (f *files) base(s *source, body *yaml.Node) (*source, string) {
	e := target(get(body, "extends").value)
	if e == nil {
		return s, ""
	}
	if e.Kind == yaml.ScalarNode {
		return s, e.Value
	}
	name := target(get(e, "service").value)
	if name == nil {
		return s, ""
	}
	if file := target(get(e, "file").value); file != nil {
		for copy, c := range f.copies {
			if c.content != nil && f.copyOf(copy) == file.Value {
				return c.content, name.Value
			}
		}
	}
	return s, name.Value
}

func (f *files) open(p string, at attr) *source {
	if len(f.sources) >= maxFiles {
		f.report.deny("LIMIT", at, fmt.Sprintf("brings in more than %d files", maxFiles), "include fewer files")
		return nil
	}
	s := f.parse(p)
	if s == nil {
		return nil
	}
	f.sources = append(f.sources, s)
	f.simplify(s)
	return s
}

// simplify takes out what compose-go would write to a log or look up on this
// machine and what means nothing here.
func (f *files) simplify(s *source) {
	if get(s.root, "version").key != nil {
		remove(s.root, "version")
	}
	for _, section := range []string{"networks", "volumes", "secrets", "configs"} {
		for _, c := range children(get(s.root, section).value) {
			if e := target(get(c.value, "external").value); e != nil && e.Kind == yaml.MappingNode {
				if name := get(e, "name").value; section == "secrets" && name != nil && get(c.value, "name").key == nil {
					set(c.value, "name", name)
				}
				set(c.value, "external", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true", Line: e.Line})
			}
		}
	}
	for _, c := range children(get(s.root, "services").value) {
		for _, name := range []string{"develop", "x-develop"} {
			if get(c.value, name).key == nil {
				continue
			}
			f.report.rewrite("DEVELOP", attr{"services", c.key.Value, "develop"}, "")
			remove(c.value, name)
		}
	}
}

// prepare resolves the references of the compose file or of an included one.
// Relative paths start in base.
func (f *files) prepare(s *source, base string, env map[string]string, stack []string) {
	f.hereIn(s, base)
	f.includes(s, base, env, stack)
	for _, section := range []string{"services", "jobs"} {
		for _, c := range children(get(s.root, section).value) {
			f.extends(attr{section, c.key.Value}, target(c.value), base)
		}
	}
}

// extends resolves the file that a service extends, if it names one.
func (f *files) extends(at attr, body *yaml.Node, base string) {
	at = at.at("extends")
	e := target(get(body, "extends").value)
	file, name := target(get(e, "file").value), target(get(e, "service").value)
	if file == nil || name == nil || f.resolved[e] {
		return
	}
	where, ok := f.reference("EXTENDS", at.at("file"), file, base)
	if ok {
		ok = f.extendBase(where, name.Value, at)
	}
	if !ok {
		remove(body, "extends")
		return
	}
	resolved := mapping(e.Line, literal("file", file.Line), literal(f.copyOf("tree/"+where), file.Line), literal("service", name.Line), name)
	f.resolved[resolved] = true
	set(body, "extends", resolved)
}

// extendBase resolves what a service that is extended extends itself.
func (f *files) extendBase(file, service string, at attr) bool {
	s := f.bases[file]
	if s == nil {
		if s = f.open(file, at); s == nil {
			return false
		}
		f.hereIn(s, path.Dir(file))
		f.bases[file] = s
		f.copies["tree/"+file] = &copied{of: file, content: s}
	}
	if f.followed[[2]string{file, service}] {
		return true
	}
	f.followed[[2]string{file, service}] = true
	body := target(get(get(s.root, "services").value, service).value)
	switch e := target(get(body, "extends").value); {
	case e == nil:
	case e.Kind == yaml.ScalarNode:
		f.extendBase(file, e.Value, at)
	case get(e, "file").value == nil && get(e, "service").value != nil:
		f.extendBase(file, target(get(e, "service").value).Value, at)
	default:
		f.extends(attr{"services", service}, body, path.Dir(file))
	}
	return true
}

// dropUnused takes the references out of services that nobody extends: they
// are not loaded, so what they name need not exist.
func (f *files) dropUnused(file string, s *source) {
	for _, c := range children(get(s.root, "services").value) {
		if !f.followed[[2]string{file, c.key.Value}] && get(c.value, "extends").key != nil {
			remove(c.value, "extends")
		}
	}
}

// copyOf is the absolute path of a copy as a text that is interpolated later.
func (f *files) copyOf(name string) string {
	return strings.ReplaceAll(filepath.Join(f.root, filepath.FromSlash(name)), "$", "$$")
}

// write puts the copies below root and returns what compose-go is to read as
// the compose file itself.
func (f *files) write(main *source) (text []byte, ok bool) {
	text, ok = f.encode(main)
	for name, c := range f.copies {
		if c.content != nil {
			var fine bool
			c.bytes, fine = f.encode(c.content)
			ok = ok && fine
		}
		to := filepath.Join(f.root, filepath.FromSlash(name))
		f.err = errors.Join(f.err, os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(to, c.bytes, 0o600))
	}
	return text, ok && f.err == nil
}

func (f *files) encode(s *source) ([]byte, bool) {
	text, err := s.text()
	if err != nil {
		f.report.denyAt("LOAD", nil, place{file: s.path}, "cannot be rewritten: "+message(err), "write it more plainly, with fewer anchors and aliases")
	}
	return text, err == nil
}

// plainly replaces the paths of copies in a message by those of the files they stand for.
func (f *files) plainly(message string) string {
	if !strings.Contains(message, f.root) {
		return message
	}
	for name, c := range f.copies {
		message = strings.ReplaceAll(message, filepath.Join(f.root, filepath.FromSlash(name)), c.of)
	}
	if f.root == "" {
		return message
	}
	tree := filepath.Join(f.root, "tree")
	message = strings.ReplaceAll(message, tree+string(filepath.Separator), "")
	return strings.NewReplacer(tree, ".", f.root, "..").Replace(message)
}
