// Package starter writes the first configuration of a machine, with comments.
package starter

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/schemas"
)

//go:embed hosts.yaml
var hosts string

//go:embed secrets.yaml
var secrets string

// A File is one that Write looked after.
type File struct {
	Path    string
	Written bool // false: there was one, and it is as it was
}

// Write puts hosts.yaml, with an entry for each host, secrets.yaml and their
// schemas into dir, which it makes if needed. A file that is there is left
// alone. Files are readable by their owner only.
func Write(dir string, all []compose.HostConfig) ([]File, error) {
	page, err := template.New("hosts").Parse(hosts)
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	if err := page.Execute(&text, all); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	contents := []struct{ name, text string }{{"hosts.yaml", text.String()}, {"secrets.yaml", secrets}}
	for _, name := range []string{"hosts", "secrets"} {
		schema, err := schemas.Get(name)
		if err != nil {
			return nil, err
		}
		contents = append(contents, struct{ name, text string }{name + ".schema.json", string(schema)})
	}
	var files []File
	for _, c := range contents {
		f := File{Path: filepath.Join(dir, c.name)}
		if f.Written, err = create(f.Path, c.text); err != nil {
			return files, fmt.Errorf("writing the configuration: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}

// create writes a file that is not there.
func create(path, text string) (written bool, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = f.WriteString(text)
	return true, errors.Join(err, f.Close())
}
