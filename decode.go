package sandboxer

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// A document remembers where each key of a YAML file stood, so that problems
// found later can still name the line.
type document struct {
	file  string
	lines map[string]int
}

// DecodeStrict decodes one YAML or JSON document into v by its json tags.
// Unknown and repeated keys, wrong types and malformed values are all
// reported at once, joined, each a [*FieldError] with file, line and key.
// Extensions use it for their own configuration files.
func DecodeStrict(file string, data []byte, v any) error {
	_, err := decodeStrict(file, data, v)
	return err
}

func decodeStrict(file string, data []byte, v any) (*document, error) {
	doc := &document{file: file, lines: map[string]int{}}
	var root, more yaml.Node
	if json.Valid(data) {
		data = yamlStrings(data)
	}
	documents := yaml.NewDecoder(bytes.NewReader(data))
	if err := documents.Decode(&root); err != nil && !errors.Is(err, io.EOF) {
		return doc, doc.syntax(err)
	}
	if err := documents.Decode(&more); !errors.Is(err, io.EOF) {
		return doc, &FieldError{File: file, Line: more.Line, Reason: "holds more than one document: split it into files"}
	}
	if len(root.Content) == 0 {
		return doc, &FieldError{File: file, Reason: "is empty"}
	}
	w := &walker{doc: doc}
	plain := w.value("", root.Content[0], reflect.TypeOf(v).Elem())
	if len(w.problems) > 0 {
		return doc, errors.Join(w.problems...)
	}
	text, err := json.Marshal(plain)
	if err != nil {
		return doc, &FieldError{File: file, Reason: err.Error()}
	}
	if err := json.Unmarshal(text, v); err != nil {
		return doc, &FieldError{File: file, Reason: err.Error()}
	}
	return doc, nil
}

// syntax turns the parser's "yaml: line 3: …" into a FieldError.
func (d *document) syntax(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	e := &FieldError{File: d.file, Reason: text}
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if number, reason, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				e.Line, e.Reason = n, reason
			}
			if countsFromZero.MatchString(reason) {
				e.Line++
			}
		}
	}
	return e
}

// countsFromZero matches the errors of yaml.v3's parser, whose lines are one
// too low; those of its scanner are right.
var countsFromZero = regexp.MustCompile(`^did not find expected (<|node content|key|'-'|',')`)

// locate adds file and line to every FieldError in err, one to a line.
func (d *document) locate(err error) error {
	problems := unjoin(err)
	for _, e := range problems {
		var f *FieldError
		if errors.As(e, &f) {
			f.File, f.Line = d.file, d.line(f.Field)
		}
	}
	return errors.Join(problems...)
}

// prefix puts the name of the enclosing key before every field in err.
func (d *document) prefix(name string, err error) error {
	for _, e := range unjoin(err) {
		var f *FieldError
		if errors.As(e, &f) {
			f.Field = strings.TrimSuffix(name+"."+f.Field, ".")
			f.Line = 0
		}
	}
	return err
}

// unjoin lists the single problems in err, however deeply they were joined.
func unjoin(err error) []error {
	many, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range many.Unwrap() {
		all = append(all, unjoin(e)...)
	}
	return all
}

// line finds the key or its nearest ancestor that stands in the file.
func (d *document) line(field string) int {
	for field != "" {
		if n, ok := d.lines[field]; ok {
			return n
		}
		cut := strings.LastIndexAny(field, ".[")
		if cut < 0 {
			break
		}
		field = field[:cut]
	}
	return 1
}

// A walker checks a YAML tree against a Go type and yields plain JSON values.
type walker struct {
	doc      *document
	problems []error
}

func (w *walker) bad(field string, n *yaml.Node, format string, args ...any) {
	w.problems = append(w.problems, &FieldError{File: w.doc.file, Line: n.Line, Field: field, Reason: fmt.Sprintf(format, args...)})
}

var (
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	rawMessage      = reflect.TypeFor[json.RawMessage]()
)

func (w *walker) value(field string, n *yaml.Node, t reflect.Type) any {
	w.doc.lines[field] = n.Line
	if n.Kind == yaml.AliasNode {
		w.bad(field, n, "anchors and aliases are not used in this document: write the value out")
		return nil
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	switch {
	case t == rawMessage || t.Kind() == reflect.Interface:
		return w.untyped(field, n)
	case t.Kind() == reflect.Pointer:
		return w.value(field, n, t.Elem())
	case reflect.PointerTo(t).Implements(textUnmarshaler):
		return w.text(field, n, t)
	case t.Kind() == reflect.Struct:
		return w.object(field, n, t)
	case t.Kind() == reflect.Map:
		return w.mapping(field, n, t)
	case t.Kind() == reflect.Slice:
		return w.list(field, n, t)
	}
	return w.scalar(field, n, t)
}

// text checks a value whose type reads itself from a string.
func (w *walker) text(field string, n *yaml.Node, t reflect.Type) any {
	if n.Kind != yaml.ScalarNode {
		w.bad(field, n, "is %s, want text", kindOf(n))
		return nil
	}
	v := reflect.New(t).Interface().(encoding.TextUnmarshaler)
	if err := v.UnmarshalText([]byte(n.Value)); err != nil {
		w.bad(field, n, "%v", err)
	}
	return n.Value
}

func (w *walker) object(field string, n *yaml.Node, t reflect.Type) any {
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "" && name != "-" {
			fields[name] = t.Field(i).Type
		}
	}
	out := map[string]any{}
	w.pairs(field, n, func(key string, k, v *yaml.Node) {
		ft, known := fields[key]
		if !known {
			w.bad(child(field, key), k, "unknown key%s", suggest(key, fields))
			return
		}
		if value := w.value(child(field, key), v, ft); value != nil {
			out[key] = value // a key without a value is as good as absent
		}
	})
	return out
}

func (w *walker) mapping(field string, n *yaml.Node, t reflect.Type) any {
	out := map[string]any{}
	w.pairs(field, n, func(key string, _, v *yaml.Node) { out[key] = w.value(child(field, key), v, t.Elem()) })
	return out
}

func (w *walker) pairs(field string, n *yaml.Node, each func(key string, k, v *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		w.bad(field, n, "is %s, want a mapping", kindOf(n))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.Tag == "!!merge" {
			w.bad(field, k, "has a key that is not plain text")
			continue
		}
		if first, dup := seen[k.Value]; dup {
			w.bad(child(field, k.Value), k, "is given twice, first in line %d", first)
			continue
		}
		seen[k.Value] = k.Line
		each(k.Value, k, v)
	}
}

func (w *walker) list(field string, n *yaml.Node, t reflect.Type) any {
	if n.Kind != yaml.SequenceNode {
		w.bad(field, n, "is %s, want a list", kindOf(n))
		return nil
	}
	out := make([]any, 0, len(n.Content))
	for i, item := range n.Content {
		out = append(out, w.value(fmt.Sprintf("%s[%d]", field, i), item, t.Elem()))
	}
	return out
}

func (w *walker) scalar(field string, n *yaml.Node, t reflect.Type) any {
	if n.Kind != yaml.ScalarNode {
		w.bad(field, n, "is %s, want %s", kindOf(n), plainName(t))
		return nil
	}
	v := reflect.New(t)
	if t.Kind() == reflect.String && n.Tag != "!!str" {
		w.bad(field, n, "is %s, want text: put it in quotes", kindOf(n))
		return nil
	}
	if v.Elem().CanInt() && n.Tag != "!!int" {
		w.bad(field, n, "%q is not %s", n.Value, plainName(t))
		return nil
	}
	if err := n.Decode(v.Interface()); err != nil || v.Elem().CanFloat() && !finite(v.Elem().Float()) {
		w.bad(field, n, "%q is not %s", n.Value, plainName(t))
		return nil
	}
	return v.Elem().Interface()
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

// untyped converts a part that another struct will check later.
func (w *walker) untyped(field string, n *yaml.Node) any {
	switch n.Kind {
	case yaml.MappingNode:
		return w.mapping(field, n, reflect.TypeFor[map[string]any]())
	case yaml.SequenceNode:
		return w.list(field, n, reflect.TypeFor[[]any]())
	}
	switch n.Tag {
	case "!!str", "!!timestamp":
		return n.Value
	case "!!bool", "!!int", "!!float":
	default:
		w.bad(field, n, "the tag %s has no meaning in this document", n.Tag)
		return nil
	}
	var v any
	if err := n.Decode(&v); err != nil {
		w.bad(field, n, "%v", err)
	}
	if f, ok := v.(float64); ok && !finite(f) {
		w.bad(field, n, "%q is not a number", n.Value)
		return nil
	}
	return v
}

func child(field, key string) string {
	if field == "" {
		return key
	}
	return field + "." + key
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.Tag {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "a truth value"
	case "!!timestamp":
		return "a date"
	}
	return "text"
}

func plainName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	}
	return "text"
}

// suggest names the key that was probably meant, else all there are.
func suggest(key string, known map[string]reflect.Type) string {
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) > 0 {
		closest := slices.MinFunc(names, func(a, b string) int { return cmp.Compare(distance(key, a), distance(key, b)) })
		if distance(key, closest) <= 2 {
			return fmt.Sprintf(", did you mean %q?", closest)
		}
	}
	return ": known here are " + strings.Join(names, ", ")
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
