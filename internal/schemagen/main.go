// Command schemagen writes the JSON Schemas of the documents that sandboxer
// reads and writes, and the OpenAPI document of examples/sandboxd. Types and tags come from the Go structs; descriptions,
// values of vocabularies and patterns from their source, so that nothing is
// stated twice. It is the one program that needs a schema generator.
//
// It is run by go generate in the directories schemas and examples/sandboxd/api.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	source := flag.String("source", "..", "root directory of the module")
	out := flag.String("out", ".", "directory to write schemas to")
	openAPI := flag.String("openapi", "", "write only the OpenAPI document, to this file")
	flag.Parse()
	run := func() error { return write(*source, *out) }
	if *openAPI != "" {
		run = func() error { return writeOpenAPI(*source, *openAPI) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "schemagen:", err)
		os.Exit(1)
	}
}

func write(source, out string) error {
	g, err := newGenerator(source)
	if err != nil {
		return err
	}
	files, err := g.generate()
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(out, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func writeOpenAPI(source, path string) error {
	g, err := newGenerator(source)
	if err != nil {
		return err
	}
	text, err := g.openAPI()
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
