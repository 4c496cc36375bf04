// Package statehub sends the events of sandboxes to a State Hub over HTTP, and
// keeps each sandbox registered there while it exists. docs/statehub.md is the
// contract with a hub: the requests, and what each answer means.
//
//	cfg, err := statehub.ParseConfig("hub.yaml", text)
//	sink, err := statehub.New(cfg)
//	client, err := sandboxer.New(sandboxer.Config{Sink: sink, Delivery: cfg.Delivery(), …})
//	go client.KeepDelivering(ctx)
//
// Retrying is not its business: it says of each event what became of it, and
// the client's outbox does the rest.
package statehub
