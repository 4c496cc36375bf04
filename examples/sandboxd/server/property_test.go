package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/server"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

// A tester sends requests that it makes from the OpenAPI document. Every
// answer is held against the document by the rig; here is held that nothing
// fails inside the server, and that what the document forbids is refused.
type tester struct {
	*generator
	*rig
	tokens []string
	ids    []string // of sandboxes that were made
	tags   []string
}

func newTester(t testing.TB) *tester {
	w := newWorld(t, sandboxer.Host{Name: "one", Address: "fake://one"}, sandboxer.Host{Name: "dead", Address: "fake://dead"})
	w.backend.SetReachable("dead", false)
	w.fault = extensiontest.SlowAt("provision", "network", 3*time.Millisecond)
	var cfg server.Config
	x := &tester{tokens: []string{"", "sbx_wrong"}}
	for _, token := range []server.Token{
		{Project: "shop", ActorType: "agt", Actor: "a", Quota: 1}, {Project: "ops", ActorType: "adm", Actor: "b", Admin: true}, {Project: "ops", ActorType: "adm", Actor: "c", Admin: true},
	} {
		var secret string
		secret, token.SHA256 = server.NewToken()
		cfg.Tokens = append(cfg.Tokens, token)
		x.tokens = append(x.tokens, secret)
	}
	x.rig = w.start(t, cfg)
	x.as(x.tokens[2]).create() // its quota is used up
	return x
}

// TestRequestsFromTheDocument sends that many requests to each operation.
func TestRequestsFromTheDocument(t *testing.T) {
	const rounds = 150
	x := newTester(t)
	count := map[int]int{}
	for round := range rounds {
		x.generator = &generator{rand.New(rand.NewPCG(uint64(round), 1)), x.rig.contract}
		for _, o := range api.Operations() {
			count[x.request(t, o)]++
		}
	}
	t.Logf("answers by status: %v", count)
	for _, status := range []int{200, 201, 202, 304, 400, 401, 403, 404, 409, 412, 413, 415, 422, 428, 429, 503} {
		if count[status] == 0 {
			t.Errorf("no request led to %d: the test does not reach it", status)
		}
	}
}

// FuzzRequests is the same, wherever the fuzzer leads.
func FuzzRequests(f *testing.F) {
	x := newTester(f)
	f.Add(uint64(1), uint64(1))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		x.generator = &generator{rand.New(rand.NewPCG(a, b)), x.rig.contract}
		for _, o := range api.Operations() {
			x.request(t, o)
		}
	})
}

// request sends one, and returns the status of the answer.
func (x *tester) request(t testing.TB, o api.Operation) int {
	described := x.rig.contract.document["paths"].(map[string]any)[o.DocumentPath()].(map[string]any)[strings.ToLower(o.Method)].(map[string]any)
	token := x.tokens[min(x.IntN(8), len(x.tokens)-1)]
	forbidden := "" // why the document does not allow the request
	target, headers := o.DocumentPath(), []string{}
	query := url.Values{}
	for i, p := range anys(described["parameters"]) {
		p := p.(map[string]any)
		name, in := p["name"].(string), p["in"].(string)
		if in == "path" {
			target = strings.Replace(target, "{"+name+"}", url.PathEscape(x.id()), 1)
			continue
		}
		if x.IntN(3) > 0 {
			continue
		}
		schema := p["schema"].(map[string]any)
		text := x.parameter(name, schema)
		pointer := fmt.Sprintf("#/paths/%s/%s/parameters/%d/schema", strings.ReplaceAll(o.DocumentPath(), "/", "~1"), strings.ToLower(o.Method), i)
		if !x.allows(t, pointer, schema, text) {
			forbidden = fmt.Sprintf("parameter %s is %q", name, text)
		}
		if in == "query" {
			query.Add(name, text)
		} else if printable(text) {
			headers = append(headers, name, text)
		}
	}
	if x.IntN(20) == 0 {
		query.Add("surprise", "1")
		forbidden = "an unknown parameter"
	}
	body := ""
	if described["requestBody"] != nil {
		kind := "application/json"
		body, forbidden = x.body(t, described, forbidden)
		if x.IntN(15) == 0 {
			kind, forbidden = "text/plain", "another content type"
		}
		headers = append(headers, "Content-Type", kind)
	}
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	r := x.as(token)
	a, err := r.try(r.request(t.Context(), o.Method, target, body, headers...))
	if err != nil {
		t.Errorf("%s %s %q: %v", o.Method, target, headers, err)
		return 0
	}
	if a.status == http.StatusInternalServerError || forbidden != "" && a.status < 400 {
		t.Errorf("%s %s %q %.300s: %d %s\n%s", o.Method, target, headers, body, a.status, forbidden, a.body)
	}
	var s sandboxer.Sandbox
	if json.Unmarshal([]byte(a.body), &s) == nil && sandboxer.ValidID(s.ID) && a.status < 300 {
		x.ids, x.tags = append(x.ids, s.ID), append(x.tags, a.header.Get("ETag"))
	}
	return a.status
}

func anys(v any) []any {
	list, _ := v.([]any)
	return list
}

// printable reports what may stand in a header.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func (x *tester) id() string {
	if len(x.ids) > 0 && x.IntN(5) > 0 {
		return x.ids[len(x.ids)-1-x.IntN(min(len(x.ids), 5))]
	}
	return x.word() + "x" // dots alone would be another path
}

// parameter is often what is allowed, and sometimes anything.
func (x *tester) parameter(name string, schema map[string]any) string {
	if x.IntN(5) == 0 {
		return x.word()
	}
	switch name {
	case "If-Match", "If-None-Match":
		if len(x.tags) > 0 && x.IntN(2) == 0 {
			return x.tags[len(x.tags)-1]
		}
		return "*"
	case "Prefer":
		return []string{"respond-async", "wait=0", "wait=10", "wait=-1", "return=minimal"}[x.IntN(5)]
	case "since", "until":
		return []string{"1h", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00+01:00"}[x.IntN(3)]
	case "Idempotency-Key":
		return fmt.Sprintf("k%d", x.IntN(100))
	}
	if items, ok := schema["items"].(map[string]any); ok {
		schema = items
	}
	return fmt.Sprint(x.value(schema, 0))
}

// allows says whether the schema of a parameter takes a text as it stands in a URL.
func (x *tester) allows(t testing.TB, pointer string, schema map[string]any, text string) bool {
	if items, ok := schema["items"].(map[string]any); ok {
		pointer, schema = pointer+"/items", items
	}
	var v any = text
	switch schema["type"] {
	case "integer":
		n, err := strconv.Atoi(text)
		if err != nil {
			return false
		}
		v = n
	case "boolean":
		b, ok := map[string]bool{"true": true, "false": false}[text]
		if !ok {
			return false
		}
		v = b
	}
	compiled, err := x.rig.contract.schema(pointer)
	if err != nil {
		t.Fatal(err)
	}
	return compiled.Validate(plain(t, v)) == nil
}

// plain is a value as a validator takes it.
func plain(t testing.TB, v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// body makes a document for an operation, now and then a bad one.
func (x *tester) body(t testing.TB, described map[string]any, forbidden string) (text, why string) {
	media := described["requestBody"].(map[string]any)["content"].(map[string]any)["application/json"].(map[string]any)
	ref := media["schema"].(map[string]any)["$ref"].(string)
	v := x.value(media["schema"].(map[string]any), 0)
	for x.IntN(4) == 0 {
		v = x.spoil(v)
	}
	schema, err := x.rig.contract.schema(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(plain(t, v)); err != nil {
		forbidden = err.Error()
	}
	document, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	switch x.IntN(30) {
	case 0:
		return string(document[:len(document)-1]), "half a document"
	case 1:
		return `{"profile":"` + strings.Repeat("x", 300<<10) + `"}`, "a large document"
	}
	return string(document), forbidden
}
