package secrets_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/secrets"
)

// The operator says where secrets come from; profiles name them.
func ExampleSources() {
	if err := os.Setenv("SHOP_TOKEN", "t0ken"); err != nil {
		log.Fatal(err)
	}
	cfg, err := secrets.ParseConfig("secrets.yaml", []byte("secrets:\n  api-token: {env: SHOP_TOKEN}\n"))
	if err != nil {
		log.Fatal(err)
	}
	sources := secrets.Sources(cfg.Secrets) // for sandboxer.Config.Secrets
	value, err := sources.ResolveSecret(context.Background(), sandboxer.SecretRequest{Name: "api-token"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(value), "bytes")
	_, err = sources.ResolveSecret(context.Background(), sandboxer.SecretRequest{Name: "db-password"})
	fmt.Println(err)
	// Output:
	// 5 bytes
	// not found: no source is configured
}
