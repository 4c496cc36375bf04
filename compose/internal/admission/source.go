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
	maxNodes     = 20_000  // of all files
	maxExpanded  = 20_000  // of all files, with aliases and extends replaced by what they name
	maxText      = 4 << 20 // bytes of keys and values, likewise
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
		f.report.denyAt("YAML-FILE", nil, where, "is or passes through a symbolic link")
		return nil
	case at != file:
		f.report.denyAt("YAML-FILE", nil, where, "is not a regular file of the repository")
		return nil
	case entry.Size > maxFileBytes:
		f.report.denyAt("YAML-BOMB", nil, where, fmt.Sprintf("has %d bytes, more than the %d a compose file may have", entry.Size, maxFileBytes), "move data into files that are mounted")
		return nil
	}
	text, err := f.tree.ReadFile(p, maxFileBytes)
	if err != nil {
		f.err = errors.Join(f.err, err)
		return nil
	}
	doc, err := parseYAML(text)
	if err != nil {
		f.report.denyAt("YAML", nil, place{p, lineOf(err)}, message(err))
		return nil
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		f.report.denyAt("LOAD", nil, place{p, 1}, "holds no mapping", "a compose file has services: at the top")
		return nil
	}
	s := &source{path: p, root: doc.Content[0]}
	shape := &shape{source: s, report: f.report, seen: map[*yaml.Node]*extent{}, nodes: f.nodes}
	if !shape.check() {
		return nil
	}
	f.nodes, s.extents = shape.nodes, shape.seen
	if services := get(s.root, "services"); len(children(services.value)) > maxServices {
		f.report.denyAt("SCALE", nil, place{p, services.key.Line}, fmt.Sprintf("has more than %d services", maxServices))
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

var (
	yamlLine     = regexp.MustCompile(`line (\d+)(?:, column \d+)?: `)
	yamlPosition = regexp.MustCompile(`( at )?(?:line \d+(?:, column \d+)?|<unknown position>)(: |$)`)
)

// lineOf finds the line in the library's message. It counts from 0 where it
// parses and from 1 where it scans; an open quote is found where it begins.
func lineOf(err error) int {
	text := err.Error()
	found := yamlLine.FindAllStringSubmatch(text, -1)
	if len(found) == 0 {
		return 0
	}
	at := found[len(found)-1]
	if strings.Contains(text, "quoted scalar") {
		at = found[0]
	}
	n, _ := strconv.Atoi(at[1])
	if strings.Contains(text, "while parsing") {
		n++
	}
	return n
}

// message is the library's message without its name and positions.
func message(err error) string {
	text := yamlPosition.ReplaceAllStringFunc(err.Error(), func(position string) string {
		if strings.HasPrefix(position, " at ") {
			return ": "
		}
		return ""
	})
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
	nodes, text, depth int
	open               bool // its children are being measured
}

// add counts another extent's values, without running over.
func (e *extent) add(more extent) {
	e.nodes, e.text = min(e.nodes+more.nodes, maxExpanded+1), min(e.text+more.text, maxText+1)
}

// excess says that there is too much, "" otherwise.
func (e *extent) excess() string {
	if e.nodes <= maxExpanded && e.text <= maxText {
		return ""
	}
	return fmt.Sprintf("grows to more than %d values or %d bytes when aliases and extends are replaced", maxExpanded, maxText)
}

// errTooMuch ends the walk: what was found is enough.
var errTooMuch = errors.New("too much")

func (s *shape) check() bool {
	before := s.report.violations.count()
	e, err := s.measure(s.source.root, nil)
	switch {
	case err != nil:
	case e.depth > maxDepth:
		s.deny("YAML-BOMB", s.source.root, nil, fmt.Sprintf("nests deeper than %d levels", maxDepth))
	case e.excess() != "": // before anything looks through merge keys, which may take as long
		s.deny("YAML-BOMB", s.source.root, nil, e.excess())
	}
	return s.report.violations.count() == before
}

func (s *shape) deny(rule string, n *yaml.Node, at attr, message string, hint ...string) {
	s.report.denyAt(rule, at, place{s.source.path, n.Line}, message, hint...)
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
	e := &extent{nodes: 1, text: len(n.Value), depth: 1, open: true}
	n.HeadComment, n.LineComment, n.FootComment = "", "", ""
	switch n.ShortTag() {
	case "!!null":
		n.Value = "null" // an empty one is written as an empty text
	case "!!str":
		n.Style = yaml.DoubleQuotedStyle // blocks are not always read back
	}
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
			child.HeadComment, child.LineComment, child.FootComment = "", "", ""
			s.checkTag(child, at)
			e.add(extent{text: len(child.Value)})
			continue
		}
		inner, err := s.measure(child, childPath(n, i, at))
		if err != nil {
			return nil, err
		}
		e.add(*inner)
		e.depth = max(e.depth, inner.depth+1)
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
		if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" && key.ShortTag() != "!!merge" {
			s.deny("LOAD", key, at, fmt.Sprintf("has the key %q, which is no text", key.Value), "put quotes around it")
			continue
		}
		if line, twice := lines[key.Value]; twice {
			s.deny("LOAD", key, at.at(key.Value), fmt.Sprintf("is given twice, first on line %d", line), "keep one of them")
		}
		lines[key.Value] = key.Line
	}
}

// text writes the nodes for compose-go to read, and makes sure that it reads
// these nodes.
func (s *source) text() ([]byte, error) {
	text, err := yaml.Marshal(s.root)
	if err != nil {
		return nil, err
	}
	again, err := parseYAML(text)
	if err != nil {
		return nil, err
	}
	if len(again.Content) != 1 || !alike(s.root, again.Content[0]) {
		return nil, errors.New("does not survive being written")
	}
	return text, nil
}

// alike reports whether two trees of nodes hold the same values.
func alike(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || a.ShortTag() != b.ShortTag() || a.Anchor != b.Anchor || len(a.Content) != len(b.Content) {
		return false
	}
	if a.Kind != yaml.MappingNode && a.Kind != yaml.SequenceNode && a.ShortTag() != "!!null" && a.Value != b.Value {
		return false
	}
	for i := range a.Content {
		if !alike(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}
