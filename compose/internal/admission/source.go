package admission

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// The bounds of what is read, checked on the nodes before compose-go sees
// them: there, a kilobyte can cost seconds and gigabytes.
const (
	maxFileBytes = 256 << 10
	maxNodes     = 20_000 // of all files
	maxExpanded  = 20_000 // of all files, with aliases and extends replaced by what they name
	maxDepth     = 40
	maxServices  = 200 // of one file, also those of profiles that are not active
)

// source is one YAML file of the tree. Parsing it with the library that
// compose-go uses leaves no room for two readings of one text.
type source struct {
	path    string
	root    *yaml.Node             // its top-level mapping
	extents map[*yaml.Node]*extent // by node that is no alias
}

// parse reads a file of the tree and checks its shape. What is wrong with it
// is reported, and the result nil.
func (f *files) parse(p string) *source {
	at, entry := stat(f.tree, p)
	where := place{file: p}
	switch {
	case at == symlink:
		f.report.denyAt("YAML-FILE", where, "is or passes through a symbolic link")
		return nil
	case at != file:
		f.report.denyAt("YAML-FILE", where, "is not a regular file of the repository")
		return nil
	case entry.Size > maxFileBytes:
		f.report.denyAt("YAML-BOMB", where, fmt.Sprintf("has %d bytes, more than the %d a compose file may have", entry.Size, maxFileBytes), "move data into files that are mounted")
		return nil
	}
	text, err := f.tree.ReadFile(p, maxFileBytes)
	if err != nil {
		f.err = errors.Join(f.err, err)
		return nil
	}
	doc, err := parseYAML(text)
	if err != nil {
		f.report.denyAt("YAML", place{p, lineOf(err)}, message(err))
		return nil
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		f.report.denyAt("LOAD", place{p, 1}, "holds no mapping", "a compose file has services: at the top")
		return nil
	}
	s := &source{path: p, root: doc.Content[0]}
	shape := &shape{source: s, report: f.report, seen: map[*yaml.Node]*extent{}, nodes: f.nodes}
	if !shape.check() {
		return nil
	}
	f.nodes, s.extents = shape.nodes, shape.seen
	if services := get(s.root, "services"); len(children(services.value)) > maxServices {
		f.report.denyAt("SCALE", place{p, services.key.Line}, fmt.Sprintf("has more than %d services", maxServices))
		return nil
	}
	return s
}

var errDocuments = errors.New("holds more than one document")

func parseYAML(text []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	doc, more := new(yaml.Node), new(yaml.Node)
	if err := decoder.Decode(doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := decoder.Decode(more); err == nil {
		return nil, errDocuments
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return doc, nil
}

var yamlLine = regexp.MustCompile(`line (\d+)(, column \d+)?: `)

// lineOf finds the line in the library's message.
func lineOf(err error) int {
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		n, _ := strconv.Atoi(m[1])
		return n
	}
	return 0
}

// message is the library's message without its name and line.
func message(err error) string {
	text := yamlLine.ReplaceAllString(err.Error(), "")
	text = strings.TrimPrefix(text, "go-yaml: ")
	return strings.TrimSpace(strings.TrimPrefix(text, "yaml: "))
}

// shape checks a file's nodes: how many, how deep, which tags, no key twice.
type shape struct {
	source *source
	report *report
	seen   map[*yaml.Node]*extent
	nodes  int
}

// extent is the size of a node with its aliases replaced.
type extent struct {
	nodes, depth int
	open         bool // its children are being measured
}

// errTooMuch ends the walk: what was found is enough.
var errTooMuch = errors.New("too much")

func (s *shape) check() bool {
	before := len(s.report.violations)
	e, err := s.measure(s.source.root, nil)
	if err == nil {
		switch {
		case e.depth > maxDepth:
			s.deny("YAML-BOMB", s.source.root, nil, fmt.Sprintf("nests deeper than %d levels", maxDepth))
		case e.nodes > maxExpanded:
			s.deny("YAML-BOMB", s.source.root, nil, fmt.Sprintf("grows to more than %d values when aliases are replaced", maxExpanded))
		}
	}
	return len(s.report.violations) == before
}

func (s *shape) deny(rule string, n *yaml.Node, at attr, message string, hint ...string) {
	s.report.denyAt(rule, place{s.source.path, n.Line}, message, hint...)
	s.report.violations[len(s.report.violations)-1].at = at
}

// measure walks each node once. The walk itself is bounded by maxNodes and,
// counting levels on the way down, by maxDepth.
func (s *shape) measure(n *yaml.Node, at attr) (*extent, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if known, ok := s.seen[n]; ok {
		if known.open {
			s.deny("YAML-BOMB", n, at, "refers to itself")
			return nil, errTooMuch
		}
		return known, nil
	}
	e := &extent{nodes: 1, depth: 1, open: true}
	s.seen[n] = e
	if s.nodes++; s.nodes > maxNodes {
		s.deny("YAML-BOMB", n, at, fmt.Sprintf("has more than %d values", maxNodes), "move data into files that are mounted")
		return nil, errTooMuch
	}
	if len(at) > maxDepth {
		s.deny("YAML-BOMB", n, at[:1], fmt.Sprintf("nests deeper than %d levels", maxDepth))
		return nil, errTooMuch
	}
	s.checkTag(n, at)
	if n.Kind == yaml.MappingNode {
		s.checkKeys(n, at)
	}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			s.checkTag(child, at)
			continue
		}
		inner, err := s.measure(child, childPath(n, i, at))
		if err != nil {
			return nil, err
		}
		e.nodes, e.depth = min(e.nodes+inner.nodes, maxExpanded+1), max(e.depth, inner.depth+1)
	}
	e.open = false
	return e, nil
}

func childPath(n *yaml.Node, i int, at attr) attr {
	if n.Kind == yaml.MappingNode {
		return at.at(n.Content[i-1].Value)
	}
	return at.item(i)
}

func (s *shape) checkTag(n *yaml.Node, at attr) {
	switch n.ShortTag() {
	case "", "!!str", "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq", "!!merge", "!!timestamp", "!reset", "!override":
	default:
		s.deny("YAML-TAG", n, at, fmt.Sprintf("carries the tag %s", n.ShortTag()))
	}
}

func (s *shape) checkKeys(n *yaml.Node, at attr) {
	lines := map[string]int{}
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode {
			s.deny("LOAD", key, at, "has a key that is no plain text", "write keys as text")
			continue
		}
		if line, twice := lines[key.Value]; twice {
			s.deny("LOAD", key, at.at(key.Value), fmt.Sprintf("is given twice, first on line %d", line), "keep one of them")
		}
		lines[key.Value] = key.Line
	}
}

// target is what an alias names, or the node itself.
func target(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// child is an entry of a mapping.
type child struct {
	key, value *yaml.Node
}

// children lists the entries of a mapping as they count: its own, then those
// it merges, each key once.
func children(n *yaml.Node) []child {
	var all []child
	seen := map[string]bool{}
	collect(target(n), seen, &all)
	return all
}

func collect(n *yaml.Node, seen map[string]bool, all *[]child) {
	if n == nil || n.Kind != yaml.MappingNode {
		return
	}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Value == "<<" && key.ShortTag() == "!!merge":
			merged = append(merged, value)
		case !seen[key.Value]:
			seen[key.Value] = true
			*all = append(*all, child{key, value})
		}
	}
	for _, m := range merged {
		if m = target(m); m.Kind == yaml.SequenceNode {
			for _, item := range m.Content {
				collect(target(item), seen, all)
			}
			continue
		}
		collect(m, seen, all)
	}
}

// get finds the entry of a key; both nodes are nil if there is none.
func get(n *yaml.Node, key string) child {
	for _, c := range children(n) {
		if c.key.Value == key {
			return c
		}
	}
	return child{}
}

// set gives a mapping an entry of its own, before whatever it merges.
func set(n *yaml.Node, key string, value *yaml.Node) {
	n = target(n)
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content[i+1] = value
			return
		}
	}
	n.Content = append(n.Content, text(key, value.Line), value)
}

// remove takes a key out of a mapping, also where it was merged in.
func remove(n *yaml.Node, key string) {
	n = target(n)
	kept := []*yaml.Node{}
	for _, c := range children(n) {
		if c.key.Value != key {
			kept = append(kept, c.key, c.value)
		}
	}
	n.Content = kept
}

// text is a string node.
func text(s string, line int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: s, Line: line}
}

func list(line int, items ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: items, Line: line}
}

func mapping(line int, pairs ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: pairs, Line: line}
}
