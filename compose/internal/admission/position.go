package admission

import (
	"iter"
	"regexp"
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

// index finds where in the files each text stands, and each variable is used
// without a default: the first attribute of each.
func (f *files) index() (texts, users map[string]attr) {
	texts, users = map[string]attr{}, map[string]attr{}
	f.find(func(at attr, text string) bool {
		if texts[text] == nil {
			texts[text] = at
		}
		for name := range variablesIn(text) {
			if users[name] == nil {
				users[name] = at
			}
		}
		return false
	})
	return texts, users
}

// variablesIn yields the variables that a text uses without a default.
func variablesIn(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, m := range variable.FindAllStringSubmatch(text, -1) {
			if name := m[1] + m[2]; name != "" && !yield(name) {
				return
			}
		}
	}
}

// variable matches a variable without a default, or an escaped $.
var variable = regexp.MustCompile(`\$\$|\$([A-Za-z_][A-Za-z0-9_]*)|\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// unsetIn is the first variable of the text of an attribute that stands for nothing.
func (f *files) unsetIn(at attr, unset map[string]bool) string {
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
		for name := range variablesIn(n.Value) {
			if unset[name] {
				return name
			}
		}
	}
	return ""
}

func isNameByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// find finds the first attribute of the files whose text matches.
func (f *files) find(match func(at attr, text string) bool) attr {
	for _, s := range f.sources {
		if at := find(s.root, nil, match); at != nil {
			return at
		}
	}
	return nil
}

func find(n *yaml.Node, at attr, match func(at attr, text string) bool) attr {
	switch n.Kind {
	case yaml.ScalarNode:
		if match(at, n.Value) {
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
