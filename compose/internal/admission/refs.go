package admission

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// The bounds of everything one compose file pulls in.
const (
	maxFiles        = 50
	maxIncludeDepth = 10
)

// files is the compose file and everything it includes and extends.
//
// compose-go opens such files itself, by whatever path the text gives it. So
// every reference is resolved here first, in the tree alone, and replaced by
// the absolute path of a copy below root, where nothing else is: no text of
// the repository decides what is opened. [files.write] puts the copies there.
type files struct {
	ctx        context.Context
	tree       Tree
	report     *report
	err        error  // what kept the tree from being read
	root       string // a directory of our own on this machine
	projectDir string // of the compose file, in the tree

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
	if f.weight() > maxExpanded {
		f.report.denyAt("YAML-BOMB", place{file, 1}, fmt.Sprintf("grows to more than %d values when aliases and extends are replaced", maxExpanded))
		return nil
	}
	return s
}

// weight is how many values the files hold when aliases and extends are replaced.
func (f *files) weight() int {
	total, known := 0, map[*yaml.Node]int{}
	for _, s := range f.sources {
		total += s.extents[s.root].nodes
		for _, c := range children(get(s.root, "services").value) {
			total += f.inherited(s, target(c.value), known)
		}
	}
	return total
}

// inherited is how many values a service gets from what it extends.
func (f *files) inherited(s *source, body *yaml.Node, known map[*yaml.Node]int) int {
	if n, ok := known[body]; ok {
		return n
	}
	known[body] = 0 // for one that leads back here
	base, name := f.base(s, body)
	other := target(get(get(base.root, "services").value, name).value)
	if name == "" || other == nil {
		return 0
	}
	n := f.inherited(base, other, known)
	if e := base.extents[other]; e != nil {
		n += e.nodes
	}
	known[body] = min(n, maxExpanded+1)
	return known[body]
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
	resolved := mapping(e.Line, text("file", file.Line), text(f.copyOf("tree/"+where), file.Line), text("service", name.Line), name)
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

// includes replaces the include list by one that names copies.
func (f *files) includes(s *source, base string, env map[string]string, stack []string) {
	found := get(s.root, "include")
	if found.key == nil {
		return
	}
	entries := target(found.value)
	if entries.Kind != yaml.SequenceNode {
		f.report.denyAt("LOAD", place{s.path, found.key.Line}, "include is not a list", "write include: [FILE]")
		remove(s.root, "include")
		return
	}
	resolved := list(entries.Line)
	for i, n := range entries.Content {
		if entry := f.include(target(n), attr{"include"}.item(i), base, env, stack); entry != nil {
			resolved.Content = append(resolved.Content, entry)
		}
	}
	set(s.root, "include", resolved)
}

// include resolves one entry: its files, the directory their paths start in,
// and the variables they see. It is nil if something about it was refused.
func (f *files) include(n *yaml.Node, at attr, base string, env map[string]string, stack []string) *yaml.Node {
	before := len(f.report.violations)
	paths := f.references(scalars(n, "path"), at.at("path"), base)
	if len(paths) == 0 {
		if len(f.report.violations) == before {
			f.report.deny("INCLUDE", at, "names no file")
		}
		return nil
	}
	dir := path.Dir(paths[0])
	if d := target(get(n, "project_directory").value); d != nil {
		var ok bool
		if dir, ok = f.directory(at.at("project_directory"), d, base); !ok {
			return nil
		}
	}
	own := f.includeEnv(n, at.at("env_file"), dir, base, env)
	seen := map[string]string{}
	for _, e := range []map[string]string{own, env} { // what the outer file sees wins
		for k, v := range e {
			seen[k] = v
		}
	}
	copies := list(n.Line)
	for _, p := range paths {
		if slices.Contains(stack, p) {
			f.report.deny("INCLUDE", at, "includes itself: "+strings.Join(append(stack, p), " → "), "remove one of them")
			return nil
		}
		if len(stack) > maxIncludeDepth {
			f.report.deny("INCLUDE", at, fmt.Sprintf("nests deeper than %d files", maxIncludeDepth), "include the files from the first one")
			return nil
		}
		s := f.open(p, at)
		if s == nil {
			return nil
		}
		f.prepare(s, dir, seen, append(stack, p))
		name := fmt.Sprintf("include/%d/%s", len(f.copies), path.Base(p))
		f.copies[name] = &copied{of: p, content: s}
		copies.Content = append(copies.Content, text(f.copyOf(name), n.Line))
	}
	envName := fmt.Sprintf("env/%d", len(f.copies))
	f.copies[envName] = &copied{bytes: dotenvText(own)}
	return mapping(n.Line, text("path", n.Line), copies,
		text("project_directory", n.Line), text(f.copyOf("tree/"+dir), n.Line),
		text("env_file", n.Line), text(f.copyOf(envName), n.Line))
}

// includeEnv reads the env files of an entry, or the .env of its directory.
func (f *files) includeEnv(n *yaml.Node, at attr, dir, base string, env map[string]string) map[string]string {
	var named []*yaml.Node
	if n.Kind == yaml.MappingNode {
		for _, s := range scalars(n, "env_file") {
			if s.Value != "/dev/null" {
				named = append(named, s)
			}
		}
		if len(named) == 0 && get(n, "env_file").key != nil {
			return nil
		}
	}
	paths := f.references(named, at, base)
	if len(named) == 0 {
		implicit := path.Join(dir, ".env")
		if at, _ := stat(f.tree, implicit); at == missing || at == directory {
			return nil
		}
		paths = []string{implicit}
	}
	own := map[string]string{}
	for _, p := range paths {
		f.readEnv(p, place{file: p}, at, own, env)
	}
	kept, dropped := withoutSteering(own)
	f.reportSteering(paths, dropped)
	return kept
}

// scalars lists the texts of an entry that is one text, a list of texts, or a
// mapping that holds either under key.
func scalars(n *yaml.Node, key string) []*yaml.Node {
	if n.Kind == yaml.MappingNode {
		n = target(get(n, key).value)
	}
	switch {
	case n == nil:
		return nil
	case n.Kind == yaml.ScalarNode:
		return []*yaml.Node{n}
	}
	var all []*yaml.Node
	for _, item := range n.Content {
		if item = target(item); item.Kind == yaml.ScalarNode {
			all = append(all, item)
		}
	}
	return all
}

func (f *files) references(nodes []*yaml.Node, at attr, base string) []string {
	var paths []string
	for _, n := range nodes {
		if p, ok := f.reference("INCLUDE", at, n, base); ok {
			paths = append(paths, p)
		}
	}
	return paths
}

// reference resolves the name of a file that must be known before anything is loaded.
func (f *files) reference(rule string, at attr, n *yaml.Node, base string) (string, bool) {
	p, ok := f.literal(rule, at, n, base)
	if !ok {
		return "", false
	}
	problem := map[presence]string{
		missing: "does not exist", directory: "is a directory", symlink: "passes through a symbolic link", below: "passes through a file",
	}
	if there, _ := stat(f.tree, p); there != file {
		f.report.deny(rule, at, fmt.Sprintf("names %s, which %s", n.Value, problem[there]))
		return "", false
	}
	return p, true
}

func (f *files) directory(at attr, n *yaml.Node, base string) (string, bool) {
	p, ok := f.literal("INCLUDE", at, n, base)
	if !ok {
		return "", false
	}
	if there, _ := stat(f.tree, p); there != directory {
		f.report.deny("INCLUDE", at, fmt.Sprintf("names %s, which is no directory of the repository", n.Value))
		return "", false
	}
	return p, true
}

// literal makes a path of the tree of a text that holds no variable.
func (f *files) literal(rule string, at attr, n *yaml.Node, base string) (string, bool) {
	switch v := n.Value; {
	case n.Kind != yaml.ScalarNode || v == "":
		f.report.deny(rule, at, "names no file")
	case strings.Contains(v, "$"):
		f.report.deny(rule, at, fmt.Sprintf("names %s, which is known only after variables are replaced", v))
	case isRemote(v):
		f.report.deny(rule, at, fmt.Sprintf("names %s, which is fetched from elsewhere", v))
	case isForeign(v):
		f.report.deny(rule, at, fmt.Sprintf("names %s, which is outside the repository", v))
	default:
		p := path.Join(base, v)
		if leaves(p) || namesGit(p) {
			f.report.deny(rule, at, fmt.Sprintf("names %s, which is outside the repository", v))
			return "", false
		}
		return p, true
	}
	return "", false
}

// isRemote reports whether a path is a URL or a short form of one, as the
// builder and compose's own loaders take them.
func isRemote(p string) bool {
	for _, prefix := range []string{"github.com/", "git@", "oci:", "docker-image:", "target:"} {
		if strings.HasPrefix(p, prefix) {
			return true
		}
	}
	return strings.Contains(p, "://")
}

// isForeign reports whether a path starts somewhere else than in the tree, on any system.
func isForeign(p string) bool {
	drive := len(p) > 1 && p[1] == ':' && (p[0]|0x20) >= 'a' && (p[0]|0x20) <= 'z'
	return path.IsAbs(p) || strings.HasPrefix(p, "~") || strings.HasPrefix(p, `\`) || drive || filepath.IsAbs(p)
}

// leaves reports whether a clean relative path leads out of the tree.
func leaves(p string) bool { return p == ".." || strings.HasPrefix(p, "../") }

// copyOf is the absolute path of a copy as a text that is interpolated later.
func (f *files) copyOf(name string) string {
	return strings.ReplaceAll(filepath.Join(f.root, filepath.FromSlash(name)), "$", "$$")
}

// write puts the copies below root.
func (f *files) write() error {
	if err := os.MkdirAll(filepath.Join(f.root, "tree", filepath.FromSlash(f.projectDir)), 0o700); err != nil {
		return err
	}
	for name, c := range f.copies {
		data := c.bytes
		if c.content != nil {
			var err error
			if data, err = yaml.Marshal(c.content.root); err != nil {
				return err
			}
		}
		to := filepath.Join(f.root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(to, data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// plainly replaces the paths of copies in a message by those of the files they stand for.
func (f *files) plainly(message string) string {
	for name, c := range f.copies {
		message = strings.ReplaceAll(message, filepath.Join(f.root, filepath.FromSlash(name)), c.of)
	}
	return strings.ReplaceAll(message, filepath.Join(f.root, "tree")+string(filepath.Separator), "")
}
