// Package profiles holds the reference profiles, and lays a program's own over
// them.
package profiles

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

// FS returns the reference profiles as the files they are, to be shown or
// copied. It is read-only.
func FS() fs.FS { return files }

// Load returns the reference profiles with those of own laid over them,
// ordered by id. Each of own holds *.yaml files at its top, such as
// os.DirFS("/etc/sandboxer/profiles"). A profile with the id of an earlier
// one takes its place as a whole; nothing is merged key by key. Problems in
// any file are joined, and no profile is returned.
func Load(own ...fs.FS) ([]sandboxer.Profile, error) {
	byID := map[string]sandboxer.Profile{}
	for _, fsys := range append([]fs.FS{files}, own...) {
		loaded, err := sandboxer.LoadProfiles(fsys)
		if err != nil {
			return nil, fmt.Errorf("profiles: %w", err)
		}
		for _, p := range loaded {
			byID[p.ID] = p
		}
	}
	all := make([]sandboxer.Profile, 0, len(byID))
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		all = append(all, byID[id])
	}
	return all, nil
}
