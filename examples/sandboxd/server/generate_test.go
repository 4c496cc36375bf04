package server_test

import (
	"math/rand/v2"
	"regexp/syntax"
	"slices"
	"strings"
)

// A generator makes documents from JSON Schemas: some that are valid, and some
// that nearly are.
type generator struct {
	*rand.Rand
	contract *contract
}

// likely are values that lead further than random ones, by property.
func likely() map[string][]any {
	return map[string][]any{
		"profile": {"profile.compose-e2e"}, "host": {"one", "one", "dead"}, "ttl": {"5m", "2h"},
		"inputs": {repo("."), repo("."), repo("."), repo("shop"), repo("../.."), map[string]any{"repo": ".", "profiles": "greedy"}},
		"labels": {map[string]any{"a": "b"}}, "consumer": {map[string]any{"run": "r"}, map[string]any{"project": "blog"}},
	}
}

func repo(path string) map[string]any { return map[string]any{"repo": path} }

// value makes one that a schema allows.
func (g *generator) value(schema map[string]any, depth int) any {
	if ref, ok := schema["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, "#/components/schemas/")
		return g.value(g.contract.document["components"].(map[string]any)["schemas"].(map[string]any)[name].(map[string]any), depth)
	}
	if words, ok := schema["enum"].([]any); ok {
		return words[g.IntN(len(words))]
	}
	switch schema["type"] {
	case "object":
		return g.object(schema, depth)
	case "array":
		list := []any{}
		for range g.IntN(3) {
			list = append(list, g.value(schema["items"].(map[string]any), depth+1))
		}
		return list
	case "boolean":
		return g.IntN(2) == 0
	case "integer", "number":
		return g.IntN(100)
	}
	if pattern, ok := schema["pattern"].(string); ok {
		return g.matching(pattern)
	}
	return g.word()
}

func (g *generator) object(schema map[string]any, depth int) any {
	required, _ := schema["required"].([]any)
	properties, _ := schema["properties"].(map[string]any)
	out := map[string]any{}
	for _, name := range sorted(properties) {
		if name != "inputs" && !slices.Contains(required, any(name)) && g.IntN(3) > 0 {
			continue
		}
		if values := likely()[name]; len(values) > 0 && g.IntN(10) > 0 {
			out[name] = values[g.IntN(len(values))]
			continue
		}
		out[name] = g.value(properties[name].(map[string]any), depth+1)
	}
	if more, ok := schema["additionalProperties"].(map[string]any); ok && depth < 4 {
		for range g.IntN(3) {
			key := g.word()
			if names, ok := schema["propertyNames"].(map[string]any); ok {
				key = g.value(names, depth+1).(string)
			}
			out[key] = g.value(more, depth+1)
		}
	}
	return out
}

func sorted(m map[string]any) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (g *generator) word() string {
	words := []string{"a", "shop", "x y", "%2e%2e", "../x", "äöü", "🙂", "'; --", "<b>", "\u0000", "\n", "-", "=", "null", strings.Repeat("long", 100)}
	return words[g.IntN(len(words))]
}

// matching makes a text that an expression matches.
func (g *generator) matching(pattern string) string {
	expression, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		panic(err) // the document's own
	}
	var b strings.Builder
	g.write(&b, expression)
	return b.String()
}

func (g *generator) write(b *strings.Builder, e *syntax.Regexp) {
	repeat := func(least, most int) {
		if most < 0 {
			most = least + 3
		}
		for range least + g.IntN(min(most-least, 5)+1) {
			g.write(b, e.Sub[0])
		}
	}
	switch e.Op {
	case syntax.OpLiteral:
		b.WriteString(string(e.Rune))
	case syntax.OpCharClass:
		i := g.IntN(len(e.Rune)/2) * 2
		b.WriteRune(e.Rune[i] + rune(g.IntN(int(min(e.Rune[i+1]-e.Rune[i], 200))+1)))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte('x')
	case syntax.OpConcat, syntax.OpCapture:
		for _, sub := range e.Sub {
			g.write(b, sub)
		}
	case syntax.OpAlternate:
		g.write(b, e.Sub[g.IntN(len(e.Sub))])
	case syntax.OpStar:
		repeat(0, -1)
	case syntax.OpPlus:
		repeat(1, -1)
	case syntax.OpQuest:
		repeat(0, 1)
	case syntax.OpRepeat:
		repeat(e.Min, e.Max)
	}
}

// spoil changes one thing somewhere in a document.
func (g *generator) spoil(v any) any {
	odd := []any{nil, 7, -1.5, 1e300, true, "x y", "\u0000", []any{}, map[string]any{}, []any{map[string]any{}}, strings.Repeat("z", 5000)}
	object, ok := v.(map[string]any)
	if !ok || g.IntN(4) == 0 && len(object) > 0 {
		return odd[g.IntN(len(odd))]
	}
	keys := sorted(object)
	if len(keys) == 0 || g.IntN(4) == 0 {
		object[g.word()] = odd[g.IntN(len(odd))]
		return object
	}
	switch key := keys[g.IntN(len(keys))]; g.IntN(3) {
	case 0:
		delete(object, key)
	default:
		object[key] = g.spoil(object[key])
	}
	return object
}
