// Store keeps small values under keys, over HTTP, in one file of its volume.
//
//	GET /keys/{key}   200 and the value, or 404
//	PUT /keys/{key}   204; with "If-None-Match: *" 412 when the key exists
//	GET /healthz      200 once the values are loaded
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"demo.example/shop/internal/httpserver"
	"demo.example/shop/internal/probe"
)

const (
	port         = "6000"
	dataFile     = "/data/values.json"
	maxValueSize = 64 << 10
)

func main() {
	log.SetFlags(log.LstdFlags | log.Lmsgprefix)
	log.SetPrefix("store: ")
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: store serve | health")
	}
	switch args[0] {
	case "serve":
		values, err := openValues(dataFile)
		if err != nil {
			return err
		}
		return httpserver.Serve(port, routes(values))
	case "health":
		return probe.Healthy(port)
	default:
		return fmt.Errorf("unknown command %q: use serve or health", args[0])
	}
}

func routes(stored *values) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /keys/{key}", func(w http.ResponseWriter, r *http.Request) {
		value, ok := stored.get(r.PathValue("key"))
		if !ok {
			http.NotFound(w, r)
			return
		}
		io.WriteString(w, value)
	})
	mux.HandleFunc("PUT /keys/{key}", func(w http.ResponseWriter, r *http.Request) {
		value, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxValueSize))
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		onlyNew := r.Header.Get("If-None-Match") == "*"
		switch err := stored.put(r.PathValue("key"), string(value), onlyNew); {
		case errors.Is(err, errExists):
			http.Error(w, err.Error(), http.StatusPreconditionFailed)
		case err != nil:
			log.Print(err)
			http.Error(w, err.Error(), http.StatusInternalServerError)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "ok\n")
	})
	return mux
}
