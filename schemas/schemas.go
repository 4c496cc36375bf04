// Package schemas holds the JSON Schemas (draft 2020-12) of the documents
// that sandboxer reads and writes.
//
// Documents that people and programs write are closed, so that a mistyped key
// is found: profile, extension, create-request, hosts, hub,
// secrets. Documents that
// sandboxer writes are open, so that later versions can say more: a reader
// must accept keys and values that its schema does not list.
package schemas

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

//go:generate go run ../internal/schemagen

//go:embed *.schema.json
var files embed.FS

const suffix = ".schema.json"

// FS returns the schemas as files named like "profile.schema.json". It is
// read-only.
func FS() fs.FS { return files }

// Names lists the schemas, sorted: "profile", "sandbox".
func Names() []string {
	names, _ := fs.Glob(files, "*"+suffix)
	for i, path := range names {
		names[i] = strings.TrimSuffix(path, suffix)
	}
	slices.Sort(names)
	return names
}

// Get returns the schema of that name as JSON text. A name that is not among
// [Names] is [sandboxer.ErrNotFound], with a hint that lists them.
func Get(name string) ([]byte, error) {
	text, err := files.ReadFile(name + suffix)
	if err != nil {
		return nil, sandboxer.WithHint(fmt.Errorf("schema %q: %w", name, sandboxer.ErrNotFound), "there are: %s", strings.Join(Names(), ", "))
	}
	return text, nil
}
