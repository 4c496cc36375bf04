package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
)

// A rule says in a schema what Validate checks beyond types. parent is the
// object that has the property.
type rule func(parent, property *jsonschema.Schema)

// rules are those of the closed documents, by "Type.Field". They help while a
// document is written; the last word is Validate's.
func (g *generator) rules() (map[string]rule, error) {
	var missing []string
	expression := func(t reflect.Type, variable string) string {
		p, ok := g.sources[t.PkgPath()].patterns[variable]
		if !ok {
			missing = append(missing, t.PkgPath()+"."+variable)
		}
		return p
	}
	root := func(variable string) string { return expression(reflect.TypeFor[sandboxer.Profile](), variable) }
	hosts := func(variable string) string { return expression(reflect.TypeFor[compose.HostConfig](), variable) }
	all := map[string]rule{
		"Profile.ID":        pattern(root("profileID")),
		"Profile.Extension": pattern(root("extensionID")),
		"Profile.Inputs":    declaring("inputs", sandboxer.WorkspaceInput),
		"Profile.Labels":    labels(root("labelKey"), root("labelText")),
		"Resources.CPUs":    atLeast("0"),
		"Resources.PIDs":    atLeast("0"),
		"Setup.SecretRefs":  items(root("secretName")),
		"Expose.Service":    notBlank,
		"Expose.Port":       between("1", "65535"),

		"CreateRequest.Labels": labels(root("labelKey"), root("labelText")),
		"Consumer.Project":     pattern(root("consumerText")),
		"Consumer.Actor":       pattern(root("consumerText")),
		"Consumer.Run":         pattern(root("consumerText")),

		"ExtensionInfo.ID":           pattern(root("extensionID")),
		"ExtensionInfo.Version":      pattern(root("extensionVersion")),
		"ExtensionInfo.Capabilities": notEmpty,
		"ExtensionInfo.Isolation":    notEmpty,
		"ExtensionInfo.Hosts":        absent("hosts"),

		"HostsFile.Hosts":          notEmpty,
		"HostConfig.Name":          pattern(hosts("hostName")),
		"HostConfig.Root":          pattern(hosts("hostPath")),
		"HostConfig.EngineSocket":  pattern(hosts("hostPath")),
		"HostConfig.GVisorRuntime": pattern(hosts("runtimeName")),
		"HostConfig.Slots":         atLeast("0"),
		"Cost.Currency":            pattern(hosts("currency")),
		"Cost.MicrosPerHour":       atLeast("0"),
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("no such regular expression: %s", strings.Join(missing, ", "))
	}
	return all, nil
}

func pattern(expression string) rule {
	return func(_, property *jsonschema.Schema) { property.Pattern = expression }
}

// items gives a pattern to every item of a list, none of which is repeated.
func items(expression string) rule {
	return func(_, property *jsonschema.Schema) {
		property.Items.Pattern, property.UniqueItems = expression, true
	}
}

func atLeast(n json.Number) rule {
	return func(_, property *jsonschema.Schema) { property.Minimum = n }
}

func between(least, most json.Number) rule {
	return func(_, property *jsonschema.Schema) { property.Minimum, property.Maximum = least, most }
}

func notEmpty(_, property *jsonschema.Schema) { property.MinItems = new(uint64(1)) }

func notBlank(_, property *jsonschema.Schema) { property.MinLength = new(uint64(1)) }

func absent(name string) rule {
	return func(parent, _ *jsonschema.Schema) { parent.Properties.Delete(name) }
}

// declaring requires a map, and in it a key.
func declaring(name, key string) rule {
	return func(parent, property *jsonschema.Schema) {
		parent.Required = append(parent.Required, name)
		property.Required = []string{key}
	}
}

func labels(key, text string) rule {
	return func(_, property *jsonschema.Schema) {
		property.PropertyNames = &jsonschema.Schema{Pattern: key}
		property.AdditionalProperties = &jsonschema.Schema{Type: "string", Pattern: text}
	}
}

// tighten applies the rules to the object that stands for t.
func (g *generator) tighten(t reflect.Type, object *jsonschema.Schema) {
	for _, f := range reflect.VisibleFields(t) {
		name := t.Name() + "." + f.Name
		if r, ok := g.ruled[name]; ok {
			property, _ := object.Properties.Get(jsonName(f))
			r(object, property)
			g.used[name] = true
		}
	}
}

// loosen lets properties be null that Go writes so: a list or map that is nil
// and not left out when empty. What an extension remembers may be anything.
func loosen(t reflect.Type, object *jsonschema.Schema) {
	for _, f := range reflect.VisibleFields(t) {
		property, ok := object.Properties.Get(jsonName(f))
		switch {
		case !ok:
		case t == reflect.TypeFor[sandboxer.Handle]() && f.Name == "State":
			object.Properties.Set(jsonName(f), &jsonschema.Schema{Description: property.Description})
		case strings.Contains(f.Tag.Get("json"), ",omit"):
		case f.Type.Kind() == reflect.Slice || f.Type.Kind() == reflect.Map:
			object.Properties.Set(jsonName(f), orNull(property))
		}
	}
}

// orNull moves the description up, to where readers look for it.
func orNull(s *jsonschema.Schema) *jsonschema.Schema {
	description := s.Description
	s.Description = ""
	return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{s, {Type: "null"}}, Description: description}
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}
