package admission

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// locate finds the line that gives an attribute its value: through merge
// keys, included files and what a service extends. When only a part of the
// path is written anywhere, the line of that part counts.
func (f *files) locate(at attr) place {
	if len(f.sources) == 0 {
		return place{}
	}
	best, depth := place{f.sources[0].path, 1}, 0
	for _, s := range f.sources {
		line, found := descend(s.root, at)
		if found > depth {
			best, depth = place{s.path, line}, found
		}
	}
	s, name := f.extended(at.service())
	for range maxFiles { // what is extended may extend another
		if name == "" || depth == len(at) {
			break
		}
		if line, found := descend(s.root, append(attr{"services", name}, at[2:]...)); found > depth {
			best, depth = place{s.path, line}, found
		}
		s, name = f.base(s, target(get(get(s.root, "services").value, name).value))
	}
	return best
}

// extended finds the service that another one extends, and its file.
func (f *files) extended(service string) (*source, string) {
	for _, s := range f.sources {
		if body := get(get(s.root, "services").value, service).value; body != nil {
			return f.base(s, body)
		}
	}
	return nil, ""
}

// descend follows the path from a node and returns the line where it ended
// and how many parts it found.
func descend(n *yaml.Node, at attr) (line, depth int) {
	for i, part := range at {
		n = target(n)
		next, nextLine := step(n, part)
		if next == nil {
			return line, i
		}
		n, line = next, nextLine
	}
	return line, len(at)
}

// step goes one part down: to a key, an item, or the entry NAME=… of a list
// that stands for a mapping.
func step(n *yaml.Node, part string) (*yaml.Node, int) {
	switch {
	case n == nil:
		return nil, 0
	case n.Kind == yaml.MappingNode:
		if c := get(n, part); c.key != nil {
			return c.value, c.key.Line
		}
	case n.Kind == yaml.SequenceNode && isItem(part):
		if i, err := strconv.Atoi(part[1 : len(part)-1]); err == nil && i < len(n.Content) {
			return n.Content[i], n.Content[i].Line
		}
	case n.Kind == yaml.SequenceNode:
		for _, item := range n.Content {
			v := target(item).Value
			if rest, ok := strings.CutPrefix(v, part); ok && (rest == "" || rest[0] == '=' || rest[0] == ':') {
				return item, item.Line
			}
		}
	}
	return nil, 0
}

// search finds the attribute whose text is value.
func (f *files) search(value string, otherwise attr) attr {
	return f.find(otherwise, func(text string) bool { return text == value })
}

// searchVariable finds an attribute that uses a variable without a default.
func (f *files) searchVariable(name string) attr {
	return f.find(attr{}, func(text string) bool { return uses(text, name) })
}

// uses reports whether a text uses a variable without a default.
func uses(text, name string) bool {
	_, rest, ok := strings.Cut(text, "$"+name)
	return strings.Contains(text, "${"+name+"}") || ok && (rest == "" || !isNameByte(rest[0]))
}

// unsetIn is the first of names that the text of an attribute uses.
func (f *files) unsetIn(at attr, names []string) string {
	for _, s := range f.sources {
		n := s.root
		for _, part := range at {
			if n, _ = step(target(n), part); n == nil {
				break
			}
		}
		if n = target(n); n == nil || n.Kind != yaml.ScalarNode {
			continue
		}
		for _, name := range names {
			if uses(n.Value, name) {
				return name
			}
		}
	}
	return ""
}

func isNameByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func (f *files) find(otherwise attr, match func(text string) bool) attr {
	for _, s := range f.sources {
		if at := find(s.root, nil, match); at != nil {
			return at
		}
	}
	return otherwise
}

func find(n *yaml.Node, at attr, match func(text string) bool) attr {
	switch n.Kind {
	case yaml.ScalarNode:
		if match(n.Value) {
			return at
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			if found := find(item, at.item(i), match); found != nil {
				return found
			}
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if found := find(n.Content[i+1], at.at(n.Content[i].Value), match); found != nil {
				return found
			}
		}
	}
	return nil
}
