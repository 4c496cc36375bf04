package admission

import "go.yaml.in/yaml/v4"

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
	n.Content = append(n.Content, literal(key, value.Line), value)
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

// literal is a string node.
func literal(s string, line int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: s, Line: line}
}

func list(line int, items ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: items, Line: line}
}

func mapping(line int, pairs ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: pairs, Line: line}
}
