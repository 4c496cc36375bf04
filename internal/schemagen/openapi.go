package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

// An openAPI is the document, in the order in which people read it.
type openAPI struct {
	OpenAPI    string                          `json:"openapi"`
	Info       map[string]string               `json:"info"`
	Security   []map[string][]string           `json:"security"`
	Paths      map[string]map[string]operation `json:"paths"`
	Components components                      `json:"components"`
}

type components struct {
	Schemas         map[string]json.RawMessage   `json:"schemas"`
	SecuritySchemes map[string]map[string]string `json:"securitySchemes"`
}

type operation struct {
	ID          string                 `json:"operationId"`
	Summary     string                 `json:"summary"`
	Description string                 `json:"description,omitempty"`
	Security    *[]map[string][]string `json:"security,omitempty"`
	Parameters  []parameter            `json:"parameters,omitempty"`
	RequestBody *content               `json:"requestBody,omitempty"`
	Responses   map[string]*response   `json:"responses"`
}

type parameter struct {
	Name        string             `json:"name"`
	In          api.In             `json:"in"`
	Description string             `json:"description"`
	Required    bool               `json:"required,omitempty"`
	Schema      *jsonschema.Schema `json:"schema"`
}

type content struct {
	Required bool                 `json:"required,omitempty"`
	Content  map[string]mediaType `json:"content"`
}

type response struct {
	Description string               `json:"description"`
	Headers     map[string]mediaType `json:"headers,omitempty"`
	Content     map[string]mediaType `json:"content,omitempty"`
}

type mediaType struct {
	Schema *jsonschema.Schema `json:"schema"`
}

// given begins the names of what clients send and servers only read: it is
// closed, so that one type may look different in both directions.
const given = "Given"

// openAPI makes the OpenAPI document of the operations of sandboxd.
func (g *generator) openAPI() ([]byte, error) {
	rules, err := g.rules()
	if err != nil {
		return nil, err
	}
	// what a client leaves out or empty is its token's
	consumer := pattern("^$|" + g.sources[modulePath].patterns["consumerText"])
	g.ruled = map[string]rule{
		"CreateRequest.Labels": rules["CreateRequest.Labels"],
		"Claim.Project":        consumer, "Claim.Actor": consumer, "Claim.Run": consumer,
	}
	doc := openAPI{
		OpenAPI: "3.1.0",
		Info: map[string]string{
			"title": "sandboxd", "version": "1",
			"description": "Sandboxes over HTTP. docs/sandboxd.md says what can be relied on. " + openNote,
		},
		Security: []map[string][]string{{"token": {}}, {}},
		Paths:    map[string]map[string]operation{},
		Components: components{
			Schemas:         map[string]json.RawMessage{},
			SecuritySchemes: map[string]map[string]string{"token": {"type": "http", "scheme": "bearer", "description": "Needed where the server has a file of tokens."}},
		},
	}
	// told in streams, which have no schema of their own
	for _, v := range []any{sandboxer.Event{}, api.Report{}} {
		if _, err := doc.component(g, v, false); err != nil {
			return nil, err
		}
	}
	for _, o := range api.Operations() {
		described, err := doc.operation(g, o)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.ID, err)
		}
		path := doc.Paths[o.DocumentPath()]
		if path == nil {
			path = map[string]operation{}
			doc.Paths[o.DocumentPath()] = path
		}
		path[strings.ToLower(o.Method)] = described
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err = encoder.Encode(doc)
	return out.Bytes(), err
}

func (doc *openAPI) operation(g *generator, o api.Operation) (operation, error) {
	d := operation{ID: o.ID, Summary: o.Summary, Description: o.About, Responses: map[string]*response{}}
	if o.Open {
		d.Security = &[]map[string][]string{}
	}
	for _, p := range o.Parameters {
		d.Parameters = append(d.Parameters, parameter{Name: p.Name, In: p.In, Description: p.About, Required: p.In == api.InPath, Schema: parameterSchema(p)})
	}
	if o.Body != nil {
		ref, err := doc.component(g, o.Body, true)
		if err != nil {
			return d, err
		}
		d.RequestBody = &content{Required: true, Content: map[string]mediaType{api.JSONType: {ref}}}
	}
	for _, a := range o.Answers {
		if err := doc.answer(g, d.Responses, a); err != nil {
			return d, err
		}
	}
	problem, err := doc.component(g, api.Problem{}, false)
	for _, status := range slices.Concat(api.CommonProblems(), o.Problems) {
		d.Responses[strconv.Itoa(status)] = &response{Description: http.StatusText(status), Content: map[string]mediaType{api.ProblemType: {problem}}}
	}
	return d, err
}

func (doc *openAPI) answer(g *generator, all map[string]*response, a api.Answer) error {
	status := strconv.Itoa(a.Status)
	r := all[status]
	if r == nil {
		r = &response{Description: a.About}
		all[status] = r
	} else {
		r.Description += " Or: " + a.About
	}
	for _, name := range a.Headers {
		if r.Headers == nil {
			r.Headers = map[string]mediaType{}
		}
		r.Headers[name] = mediaType{&jsonschema.Schema{Type: "string"}}
	}
	body := &jsonschema.Schema{Type: "string"}
	kind := a.Type
	if a.Document != nil {
		ref, err := doc.component(g, a.Document, false)
		if err != nil {
			return err
		}
		body, kind = ref, api.JSONType
	}
	if kind == "application/openapi+json" {
		body = &jsonschema.Schema{Type: "object"}
	}
	if kind != "" {
		if r.Content == nil {
			r.Content = map[string]mediaType{}
		}
		r.Content[kind] = mediaType{body}
	}
	return nil
}

func parameterSchema(p api.Parameter) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "string"}
	switch p.Kind {
	case api.Text:
		s.MaxLength = new(uint64(p.Max))
	case api.Number:
		s = &jsonschema.Schema{Type: "integer", Minimum: json.Number(strconv.Itoa(p.Min)), Maximum: json.Number(strconv.Itoa(p.Max)), Default: p.Usual}
	case api.Flag:
		s.Type = "boolean"
	case api.Choice:
		for _, c := range p.Choices {
			s.Enum = append(s.Enum, c)
		}
	case api.Moment:
		s.Examples = []any{"24h", "2026-01-31T12:00:00Z"}
	case api.Pair:
		s.Pattern = "^[^=]+="
	}
	if p.Repeats {
		s = &jsonschema.Schema{Type: "array", Items: s}
	}
	return s
}

// component adds the schema of a document, and of what it refers to, and
// returns a reference to it.
func (doc *openAPI) component(g *generator, v any, closed bool) (*jsonschema.Schema, error) {
	d := document{of: reflect.TypeOf(v), closed: closed}
	root, definitions, err := g.reflect(d)
	if err != nil {
		return nil, err
	}
	body := *root
	body.Version, body.Definitions, body.Description = "", nil, g.comment(d.of, "")
	used, err := reachable(&body, definitions)
	if err != nil {
		return nil, err
	}
	used[d.of.Name()] = &body
	for name, s := range used {
		if err := doc.define(componentName(name, closed), s, closed); err != nil {
			return nil, err
		}
	}
	return &jsonschema.Schema{Ref: "#/components/schemas/" + componentName(d.of.Name(), closed)}, nil
}

func componentName(name string, closed bool) string {
	if closed {
		return given + name
	}
	return name
}

var definition = regexp.MustCompile(`"#/\$defs/(\w+)"`)

func (doc *openAPI) define(name string, s *jsonschema.Schema, closed bool) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	text = definition.ReplaceAll(text, []byte(`"#/components/schemas/`+componentName("$1", closed)+`"`))
	if old, ok := doc.Components.Schemas[name]; ok && !bytes.Equal(old, text) {
		return fmt.Errorf("two different schemas are called %s", name)
	}
	doc.Components.Schemas[name] = text
	return nil
}
