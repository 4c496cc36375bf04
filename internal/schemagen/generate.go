package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/examples/sandbox/doctor"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
	"github.com/sand-boxer/sandboxer/secrets"
	"github.com/sand-boxer/sandboxer/statehub"
)

const baseURL = "https://" + modulePath + "/schemas/"

// A document is one published schema.
type document struct {
	name, title string
	of          reflect.Type
	closed      bool // what people and programs write, refused for an unknown key
}

func documents() []document {
	return []document{
		{"profile", "Profile", reflect.TypeFor[sandboxer.Profile](), true},
		{"extension", "Extension", reflect.TypeFor[sandboxer.ExtensionInfo](), true},
		{"create-request", "SandboxCreateRequest", reflect.TypeFor[sandboxer.CreateRequest](), true},
		{"hosts", "Hosts", reflect.TypeFor[compose.HostsFile](), true},
		{"secrets", "Secrets", reflect.TypeFor[secrets.Config](), true},
		{"hub", "Hub", reflect.TypeFor[statehub.Config](), true},

		{"sandbox", "SandboxStatus", reflect.TypeFor[sandboxer.Sandbox](), false},
		{"sandbox-list", "SandboxStatusList", reflect.TypeFor[[]sandboxer.Sandbox](), false},
		{"event", "Event", reflect.TypeFor[sandboxer.Event](), false},
		{"undelivered", "Undelivered", reflect.TypeFor[sandboxer.Undelivered](), false},
		{"plan", "Plan", reflect.TypeFor[sandboxer.Plan](), false},
		{"report", "ReconcileReport", reflect.TypeFor[sandboxer.Report](), false},
		{"host-status", "HostStatus", reflect.TypeFor[sandboxer.HostStatus](), false},
		{"host-status-list", "HostStatusList", reflect.TypeFor[[]sandboxer.HostStatus](), false},
		{"meter", "Meter", reflect.TypeFor[sandboxer.Meter](), false},
		{"meter-list", "MeterList", reflect.TypeFor[[]sandboxer.Meter](), false},
		{"profile-list", "ProfileList", reflect.TypeFor[[]sandboxer.Profile](), false},
		{"diagnosis", "Diagnosis", reflect.TypeFor[doctor.Diagnosis](), false},
		{"extension-list", "ExtensionList", reflect.TypeFor[[]sandboxer.ExtensionInfo](), false},
	}
}

// Both notes end the description of a document.
const (
	closedNote = "Unknown keys and values are refused."
	openNote   = "Readers must accept keys that are not listed and values beyond those listed under enum: later versions add some."
)

// Beyond these, a number that does not fit into 64 bits is refused.
const (
	// durationPattern is the grammar of time.ParseDuration.
	durationPattern = `^[+-]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$`
	bytesPattern    = `^\+?[0-9]+([KMGT]i)?$`
)

// A generator makes schemas from Go types and their source.
type generator struct {
	sources map[string]*source // by import path
	ruled   map[string]rule
	used    map[string]bool
}

// newGenerator reads the sources of the module whose root is dir.
func newGenerator(dir string) (*generator, error) {
	g := &generator{sources: map[string]*source{}, used: map[string]bool{}}
	for _, t := range []reflect.Type{reflect.TypeFor[sandboxer.Profile](), reflect.TypeFor[compose.HostConfig](), reflect.TypeFor[statehub.Config](), reflect.TypeFor[secrets.Config](), reflect.TypeFor[doctor.Diagnosis](), reflect.TypeFor[api.Problem]()} {
		s, err := readSource(filepath.Join(dir, strings.TrimPrefix(t.PkgPath(), modulePath)))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.PkgPath(), err)
		}
		g.sources[t.PkgPath()] = s
	}
	rules, err := g.rules()
	g.ruled = rules
	return g, err
}

const modulePath = "github.com/sand-boxer/sandboxer"

// generate returns every schema by file name.
func (g *generator) generate() (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, d := range documents() {
		text, err := g.schema(d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.name, err)
		}
		files[d.name+".schema.json"] = text
	}
	for name := range g.ruled {
		if !g.used[name] {
			return nil, fmt.Errorf("there is a rule for %s, which no document has", name)
		}
	}
	return files, nil
}

// schema makes one document.
func (g *generator) schema(d document) ([]byte, error) {
	root, definitions, err := g.reflect(d)
	if err != nil {
		return nil, err
	}
	root.Title, root.Description = d.title, g.describe(d)
	return render(d.name, root, definitions)
}

// reflect makes the schema of a type and of those that it refers to, by name.
func (g *generator) reflect(d document) (*jsonschema.Schema, jsonschema.Definitions, error) {
	var problems []error
	structs := map[string]reflect.Type{}
	words := jsonschema.Definitions{}
	reflector := &jsonschema.Reflector{
		Anonymous: true, ExpandedStruct: true, AllowAdditionalProperties: !d.closed, LookupComment: g.comment,
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			if t.Kind() == reflect.Struct {
				if other, seen := structs[t.Name()]; seen && other != t {
					problems = append(problems, fmt.Errorf("%v and %v have one name", other, t))
				}
				structs[t.Name()] = t
			}
			return g.special(t, d.closed, words)
		},
	}
	root := reflector.ReflectFromType(d.of)
	definitions := root.Definitions
	for name, t := range structs {
		object := definitions[name]
		if t == d.of {
			object = root
		}
		switch {
		case object == nil: // time.Time, which is text
		case d.closed:
			g.tighten(t, object)
		default:
			loosen(t, object)
		}
	}
	for name, s := range words {
		definitions[name] = s
	}
	return root, definitions, errors.Join(problems...)
}

func (g *generator) describe(d document) string {
	note, about := openNote, g.comment(d.of, "")
	if d.closed {
		note = closedNote
	}
	if d.of.Kind() == reflect.Slice {
		about = "A list. " + g.comment(d.of.Elem(), "")
	}
	return about + "\n\n" + note
}

// comment gives a field the name it has in documents where its comment
// begins with the one in Go.
func (g *generator) comment(t reflect.Type, field string) string {
	s, ok := g.sources[t.PkgPath()]
	if !ok {
		return ""
	}
	if field == "" {
		return s.docs[t.Name()]
	}
	about := s.docs[t.Name()+"."+field]
	if f, ok := t.FieldByName(field); ok && strings.HasPrefix(about, field+" ") {
		about = jsonName(f) + strings.TrimPrefix(about, field)
	}
	return about
}

// special makes the schemas of types that reflection gets wrong, nil for
// others. Those with a name of their own are put into words and referred to.
func (g *generator) special(t reflect.Type, closed bool, words jsonschema.Definitions) *jsonschema.Schema {
	var s *jsonschema.Schema
	switch {
	case t == reflect.TypeFor[json.RawMessage]():
		// "config:" with nothing below it is null
		return orNull(&jsonschema.Schema{Type: "object"})
	case t == reflect.TypeFor[sandboxer.Duration]():
		s = &jsonschema.Schema{Type: "string", Pattern: durationPattern, Examples: []any{"90s", "30m", "1h30m"}}
	case t == reflect.TypeFor[sandboxer.Bytes]():
		s = &jsonschema.Schema{Type: "string", Pattern: bytesPattern, Examples: []any{"512Mi", "2Gi"}}
		if closed {
			s = &jsonschema.Schema{AnyOf: []*jsonschema.Schema{s, {Type: "integer", Minimum: "0"}}}
		}
	default:
		if s = g.vocabulary(t, closed); s == nil {
			return nil
		}
	}
	if s.Description == "" {
		s.Description = g.comment(t, "")
	}
	words[t.Name()] = s
	return &jsonschema.Schema{Ref: "#/$defs/" + t.Name()}
}

// vocabulary lists the constants of a string type. In an open document it
// names them and accepts any text.
func (g *generator) vocabulary(t reflect.Type, closed bool) *jsonschema.Schema {
	src, ok := g.sources[t.PkgPath()]
	if !ok || t.Kind() != reflect.String || len(src.words[t.Name()]) == 0 {
		return nil
	}
	s := &jsonschema.Schema{Type: "string"}
	about := g.comment(t, "")
	for _, w := range src.words[t.Name()] {
		s.Enum = append(s.Enum, w.value)
		if w.doc != "" {
			about += fmt.Sprintf("\n%s: %s", w.value, w.doc)
		}
	}
	if !closed {
		s = &jsonschema.Schema{AnyOf: []*jsonschema.Schema{s, {Type: "string"}}}
	}
	s.Description = about
	return s
}

// render puts what a person reads first at the top, and only the definitions
// that are used at the end.
func render(name string, root *jsonschema.Schema, definitions jsonschema.Definitions) ([]byte, error) {
	head := struct {
		Schema      string `json:"$schema"`
		ID          string `json:"$id"`
		Title       string `json:"title"`
		Description string `json:"description"`
	}{jsonschema.Version, baseURL + name + ".schema.json", root.Title, root.Description}
	body := *root
	body.Version, body.Title, body.Description, body.Definitions = "", "", "", nil
	used, err := reachable(&body, definitions)
	if err != nil {
		return nil, err
	}
	tail := struct {
		Definitions jsonschema.Definitions `json:"$defs"`
	}{used}
	var parts [][]byte
	for _, part := range []any{head, &body, tail} {
		text, err := json.Marshal(part)
		if err != nil {
			return nil, err
		}
		parts = append(parts, text[1:len(text)-1])
	}
	var out bytes.Buffer
	joined := append(append([]byte("{"), bytes.Join(parts, []byte(","))...), '}')
	if err := json.Indent(&out, joined, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// reachable selects the definitions that s refers to, directly or not.
func reachable(s *jsonschema.Schema, definitions jsonschema.Definitions) (jsonschema.Definitions, error) {
	used := jsonschema.Definitions{}
	reference := regexp.MustCompile(`"\$ref":"#/\$defs/(\w+)"`)
	for queue := []*jsonschema.Schema{s}; len(queue) > 0; queue = queue[1:] {
		text, err := json.Marshal(queue[0])
		if err != nil {
			return nil, err
		}
		for _, m := range reference.FindAllSubmatch(text, -1) {
			name := string(m[1])
			def, known := definitions[name]
			if !known {
				return nil, fmt.Errorf("nothing defines %s", name)
			}
			if used[name] == nil {
				used[name] = def
				queue = append(queue, def)
			}
		}
	}
	return used, nil
}
