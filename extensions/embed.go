// Package extensions holds the manifests of the extensions that this module
// implements.
package extensions

import (
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/sand-boxer/sandboxer"
)

//go:embed *.yaml
var files embed.FS

// FS returns the manifests as the files they are. It is read-only.
func FS() fs.FS { return files }

// Load returns the manifests with those of own laid over them, ordered by id.
// Each of own holds *.yaml files at its top. A manifest with the id of an
// earlier one takes its place. Problems in any file are joined, and no
// manifest is returned.
func Load(own ...fs.FS) ([]sandboxer.ExtensionInfo, error) {
	byID := map[string]sandboxer.ExtensionInfo{}
	for _, fsys := range append([]fs.FS{files}, own...) {
		loaded, err := sandboxer.LoadManifests(fsys)
		if err != nil {
			return nil, fmt.Errorf("extensions: %w", err)
		}
		for _, info := range loaded {
			byID[info.ID] = info
		}
	}
	all := make([]sandboxer.ExtensionInfo, 0, len(byID))
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		all = append(all, byID[id])
	}
	return all, nil
}

// Manifest returns the embedded manifest of one extension. An id without one
// is [sandboxer.ErrNotFound].
func Manifest(id string) (sandboxer.ExtensionInfo, error) {
	data, err := fs.ReadFile(files, id+".yaml")
	if err != nil {
		return sandboxer.ExtensionInfo{}, fmt.Errorf("manifest of %s: %w", id, sandboxer.ErrNotFound)
	}
	return sandboxer.ParseManifest(id+".yaml", data)
}
