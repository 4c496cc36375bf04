package admission

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// encode writes a canonical value as YAML that every parser reads alike: all
// text is quoted, and every $ doubled in what compose interpolates. The
// library's own way from values to nodes leads through text in block style,
// which it cannot always read back.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(node(reflect.ValueOf(v))); err != nil {
		return nil, err
	}
	return b.Bytes(), e.Close()
}

// node makes nodes of the kinds that canonical values have.
func node(v reflect.Value) *yaml.Node {
	switch v.Kind() {
	case reflect.Pointer:
		return node(v.Elem())
	case reflect.Struct:
		n := mapping(0)
		for i := range v.NumField() {
			name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			if options == "omitempty" && empty(v.Field(i)) {
				continue
			}
			n.Content = append(n.Content, key(name), node(v.Field(i)))
		}
		return n
	case reflect.Map:
		n := mapping(0)
		for _, k := range slices.Sorted(maps.Keys(keys(v))) {
			n.Content = append(n.Content, key(k), node(v.MapIndex(reflect.ValueOf(k))))
		}
		return n
	case reflect.Slice:
		n := list(0)
		for i := range v.Len() {
			n.Content = append(n.Content, node(v.Index(i)))
		}
		return n
	case reflect.String:
		return literal(strings.ReplaceAll(v.String(), "$", "$$"), 0)
	case reflect.Bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: strconv.FormatBool(v.Bool())}
	case reflect.Float64:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: strconv.FormatFloat(v.Float(), 'f', -1, 64)}
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint(v)}
}

func keys(m reflect.Value) map[string]bool {
	all := map[string]bool{}
	for _, k := range m.MapKeys() {
		all[k.String()] = true
	}
	return all
}

// empty is what omitempty leaves out: an empty list behind a pointer is there.
func empty(v reflect.Value) bool {
	if v.Kind() == reflect.Map || v.Kind() == reflect.Slice {
		return v.Len() == 0
	}
	return v.IsZero()
}

var plainKey = regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)

// notPlain are words that some parsers take for something else.
var notPlain = []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}

func key(name string) *yaml.Node {
	n := literal(name, 0)
	if plainKey.MatchString(name) && !slices.Contains(notPlain, name) {
		n.Style = 0
	}
	return n
}
