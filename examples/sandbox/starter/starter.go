// Package starter writes the first configuration of a machine, with comments.
package starter

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/schemas"
)

//go:embed hosts.yaml
var hosts string

//go:embed secrets.yaml
var secrets string

// HostsFile is the name of the file of hosts.
const HostsFile = "hosts.yaml"

// A File is one that Write looked after.
type File struct {
	Path    string
	Written bool // false: there was one, and it is as it was
}

// Write puts hosts.yaml, with an entry for each host, secrets.yaml and their
// schemas into dir, which it makes if needed. Hosts of the same name are
// numbered. A file that is there is left alone. Files are readable by their
// owner only. Nothing is written if the hosts could not be read again.
func Write(dir string, all []compose.HostConfig) ([]File, error) {
	text, err := hostsFile(all)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	contents := []struct{ name, text string }{{HostsFile, text}, {"secrets.yaml", secrets}}
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

// hostsFile is the text of hosts.yaml, which every command can read.
func hostsFile(all []compose.HostConfig) (string, error) {
	page, err := template.New("hosts").Parse(hosts)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	if err := page.Execute(&text, numbered(all)); err != nil {
		return "", err
	}
	_, err = compose.ParseHosts(HostsFile, []byte(text.String()))
	return text.String(), err
}

// numbered tells hosts of the same name apart, as one machine with two ports.
func numbered(all []compose.HostConfig) []compose.HostConfig {
	out, taken := slices.Clone(all), map[string]bool{}
	for i, h := range all {
		for n := 2; taken[out[i].Name]; n++ {
			out[i].Name = fmt.Sprintf("%s-%d", h.Name, n)
		}
		taken[out[i].Name] = true
	}
	return out
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
