// Api is the shop's front: it answers from what the migration wrote to the store.
package main

import (
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"demo.example/shop/internal/httpserver"
	"demo.example/shop/internal/probe"
)

const port = "8080"

func main() {
	log.SetFlags(log.LstdFlags | log.Lmsgprefix)
	log.SetPrefix("api: ")
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: api serve | migrate | health")
	}
	switch args[0] {
	case "serve":
		shop, err := shopFromEnvironment()
		if err != nil {
			return err
		}
		return httpserver.Serve(port, shop.routes())
	case "migrate":
		keys, err := storeFromEnvironment()
		if err != nil {
			return err
		}
		return migrate(keys)
	case "health":
		return probe.Healthy(port)
	default:
		return fmt.Errorf("unknown command %q: use serve, migrate or health", args[0])
	}
}

func shopFromEnvironment() (*shop, error) {
	keys, err := storeFromEnvironment()
	if err != nil {
		return nil, err
	}
	s := &shop{
		store:    keys,
		name:     os.Getenv("SHOP_NAME"),
		currency: os.Getenv("SHOP_CURRENCY"),
		greeting: os.Getenv("GREETING"),
	}
	if s.name == "" || s.currency == "" || s.greeting == "" {
		return nil, errors.New("SHOP_NAME, SHOP_CURRENCY and GREETING must be set")
	}
	return s, nil
}

func storeFromEnvironment() (*store, error) {
	url := os.Getenv("STORE_URL")
	if url == "" {
		return nil, errors.New("STORE_URL must be set, as in http://store:6000")
	}
	return &store{url: url, client: http.Client{Timeout: 2 * time.Second}}, nil
}
