package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/statehub/hub"
)

// openHub serves a State Hub on a free port of this machine.
func (d *demo) openHub(db string) (stop func(), err error) {
	h, err := hub.Open(context.Background(), db, hub.Options{})
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = h.Serve(ctx, listener) // ends with ctx
		_ = h.Close()
	}()
	d.hub = "http://" + listener.Addr().String()
	d.say("a State Hub shows what happens at %s/", d.hub)
	return func() { cancel(); <-ended }, nil
}

// deliverBeside sends events to the hub while the demo goes on; stop waits for
// the end of that.
func (d *demo) deliverBeside(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = d.KeepDelivering(ctx) // nil, when ctx ends
	}()
	return func() { cancel(); <-ended }
}

// askHub compares what the hub was told with what was recorded.
func (d *demo) askHub(ctx context.Context, boxes []*sandboxer.Sandbox) error {
	if _, err := d.Deliver(ctx); err != nil {
		return err
	}
	for _, box := range boxes {
		recorded, err := d.Events(ctx, box.ID, 0)
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.hub+"/v1/events?sandbox_id="+box.ID, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var told struct{ Events []sandboxer.Event }
		if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&told); err != nil {
			return fmt.Errorf("the hub's answer: %w", err)
		}
		if len(told.Events) != len(recorded) {
			return fmt.Errorf("of %s the hub has %d events, recorded are %d", box.ID, len(told.Events), len(recorded))
		}
		d.say("%s: all %d events are at the hub, the last is %s", box.ID, len(told.Events), told.Events[len(told.Events)-1].State)
	}
	return nil
}
