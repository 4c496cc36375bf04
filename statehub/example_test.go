package statehub_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/statehub"
)

func ExampleNew() {
	hub := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Method, r.URL.Path)
	}))
	defer hub.Close()
	sink, err := statehub.New(statehub.Config{URL: hub.URL, Shape: statehub.ShapeProgress})
	if err != nil {
		log.Fatal(err)
	}
	defer sink.Close()
	// A client does this, given the sink as its Sink.
	err = sink.Emit(context.Background(), sandboxer.Event{ID: "k3jx-1", Seq: 1, SandboxID: "k3jx", State: sandboxer.StateRequested, Reason: sandboxer.ReasonRequested})
	fmt.Println("taken:", err == nil)
	// Output:
	// PUT /v1/sandboxes/k3jx
	// POST /progress
	// taken: true
}

func ExampleParseConfig() {
	_, err := statehub.ParseConfig("hub.yaml", []byte(`
url: http://hub.example.net
token_env: HUB_TOKEN
shape: json
`))
	fmt.Println(err)
	fmt.Println("hint:", sandboxer.Hint(err))
	// Output:
	// hub.yaml:2: url: would carry the token to another machine unencrypted
	// hub.yaml:4: shape: "json" is neither cloudevents nor progress
	// hint: use https, or set plain_http to true if the network in between is trusted
}
