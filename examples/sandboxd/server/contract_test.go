package server_test

import (
	"bytes"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

// A contract holds answers against the OpenAPI document.
type contract struct {
	document map[string]any
	routes   *http.ServeMux // finds the operation of a request

	mu       sync.Mutex
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema
}

const documentURL = "https://test/openapi.json"

func loadContract(t testing.TB) *contract {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(api.OpenAPI()))
	if err != nil {
		t.Fatal(err)
	}
	c := &contract{document: document.(map[string]any), routes: http.NewServeMux(), compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}}
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource(documentURL, document); err != nil {
		t.Fatal(err)
	}
	for path, methods := range c.document["paths"].(map[string]any) {
		pattern := path
		if path == "/" {
			pattern = "/{$}"
		}
		for method := range methods.(map[string]any) {
			c.routes.Handle(strings.ToUpper(method)+" "+pattern, pathHandler(path))
		}
	}
	return c
}

// A pathHandler only says which path of the document it stands for.
type pathHandler string

func (pathHandler) ServeHTTP(http.ResponseWriter, *http.Request) {}

// operation is the document's description of what a request asks for, nil for
// what it does not describe.
func (c *contract) operation(r *http.Request) map[string]any {
	method := strings.ToLower(r.Method)
	if method == "head" {
		method = "get"
	}
	h, _ := c.routes.Handler(r)
	path, ok := h.(pathHandler)
	if !ok {
		return nil
	}
	operation, _ := c.document["paths"].(map[string]any)[string(path)].(map[string]any)[method].(map[string]any)
	return operation
}

// schema compiles the part of the document at a JSON pointer.
func (c *contract) schema(pointer string) (*jsonschema.Schema, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.schemas[pointer]; s != nil {
		return s, nil
	}
	s, err := c.compiler.Compile(documentURL + pointer)
	c.schemas[pointer] = s
	return s, err
}

// check says how an answer differs from what the document describes.
func (c *contract) check(r *http.Request, status int, header http.Header, body []byte) error {
	kind, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	operation := c.operation(r)
	if operation == nil { // what is not described is refused, as a problem
		if status < 400 || status >= 500 || kind != api.ProblemType {
			return fmt.Errorf("%d %s to a request that the document does not describe", status, kind)
		}
		return c.valid("#/components/schemas/Problem", body, r.Method)
	}
	described, ok := operation["responses"].(map[string]any)[strconv.Itoa(status)].(map[string]any)
	if !ok {
		return fmt.Errorf("%v does not describe status %d", operation["operationId"], status)
	}
	headers, _ := described["headers"].(map[string]any)
	for _, name := range []string{"ETag", "Location", "Link"} {
		if headers[name] == nil && header.Get(name) != "" {
			return fmt.Errorf("%v does not describe header %s of status %d", operation["operationId"], name, status)
		}
	}
	content, _ := described["content"].(map[string]any)
	if len(content) == 0 {
		if len(body) > 0 {
			return fmt.Errorf("%v: status %d has a body: %s", operation["operationId"], status, body)
		}
		return nil
	}
	for media, as := range content {
		if base, _, _ := mime.ParseMediaType(media); base != kind {
			continue
		}
		if kind != api.JSONType && kind != api.ProblemType {
			return nil
		}
		ref := as.(map[string]any)["schema"].(map[string]any)["$ref"].(string)
		return c.valid(ref, body, r.Method)
	}
	return fmt.Errorf("%v does not describe %q with status %d", operation["operationId"], kind, status)
}

func (c *contract) valid(pointer string, body []byte, method string) error {
	if method == http.MethodHead {
		return nil
	}
	schema, err := c.schema(pointer)
	if err != nil {
		return err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w in %s", err, body)
	}
	if err := schema.Validate(document); err != nil {
		return fmt.Errorf("%w\nin %s", err, body)
	}
	return nil
}
