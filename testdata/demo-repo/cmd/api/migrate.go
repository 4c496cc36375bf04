package main

import (
	"context"
	"crypto/rand"
	"log"
	"time"
)

const (
	keyInstance = "instance"
	keySchema   = "schema"
)

// migrate brings the store to the schema that the API expects. It may run any
// number of times: the instance keeps its name as long as its volume lives.
func migrate(keys *store) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	created, err := keys.create(ctx, keyInstance, rand.Text())
	if err != nil {
		return err
	}
	if created {
		log.Print("named a new instance")
	}
	if err := keys.put(ctx, keySchema, "1"); err != nil {
		return err
	}
	log.Print("the store is at schema 1")
	return nil
}
