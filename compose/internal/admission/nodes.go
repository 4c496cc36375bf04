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
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key := n.Content[i]; !isMerge(key) && !seen[key.Value] {
			seen[key.Value] = true
			*all = append(*all, child{key, n.Content[i+1]})
		}
	}
	for _, m := range merged(n) {
		collect(target(m), seen, all)
	}
}

// get finds the entry of a key; both nodes are nil if there is none. A report
// asks for one of thousands of keys again and again, so it makes no list of them.
func get(n *yaml.Node, key string) child {
	if n = target(n); n == nil || n.Kind != yaml.MappingNode {
		return child{}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k := n.Content[i]; k.Value == key && !isMerge(k) {
			return child{k, n.Content[i+1]}
		}
	}
	for _, m := range merged(n) {
		if c := get(m, key); c.key != nil {
			return c
		}
	}
	return child{}
}

func isMerge(key *yaml.Node) bool { return key.Value == "<<" && key.ShortTag() == "!!merge" }

// merged lists the mappings that a mapping merges, the one that counts first.
func merged(n *yaml.Node) (all []*yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if !isMerge(n.Content[i]) {
			continue
		}
		if m := target(n.Content[i+1]); m.Kind == yaml.SequenceNode {
			all = append(all, m.Content...)
		} else {
			all = append(all, m)
		}
	}
	return all
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
