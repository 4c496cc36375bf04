package admission

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxIncludeDepth bounds files that include one another.
const maxIncludeDepth = 10

// includes replaces the include list by one that names copies.
func (f *files) includes(s *source, base string, env map[string]string, stack []string) {
	found := get(s.root, "include")
	if found.key == nil {
		return
	}
	entries := target(found.value)
	if entries.Kind != yaml.SequenceNode {
		f.report.denyAt("LOAD", nil, place{s.path, found.key.Line}, "include is not a list", "write include: [FILE]")
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
	before := f.report.violations.count()
	paths := f.references(scalars(n, "path"), at.at("path"), base)
	if len(paths) == 0 {
		if f.report.violations.count() == before {
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
		copies.Content = append(copies.Content, literal(f.copyOf(name), n.Line))
	}
	envName := fmt.Sprintf("env/%d", len(f.copies))
	f.copies[envName] = &copied{bytes: dotenvText(own)}
	return mapping(n.Line, literal("path", n.Line), copies,
		literal("project_directory", n.Line), literal(f.copyOf("tree/"+dir), n.Line),
		literal("env_file", n.Line), literal(f.copyOf(envName), n.Line))
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
	switch v := f.here(n.Value, base); {
	case n.Kind != yaml.ScalarNode || v == "":
		f.report.deny(rule, at, "names no file")
	case strings.Contains(v, "$"):
		f.report.deny(rule, at, fmt.Sprintf("names %s, which is known only after variables are replaced", v))
	case isRemote(v):
		f.report.deny(rule, at, fmt.Sprintf("names %s, which is fetched from elsewhere", v))
	case isForeign(v):
		f.report.deny(rule, at, fmt.Sprintf("names %s, which is outside the repository", v))
	case isAbsurd(v):
		f.report.deny(rule, at, fmt.Sprintf("names %s, which no file can be called", v))
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
