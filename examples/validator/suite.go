package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"gopkg.in/yaml.v3"
)

// e2eDir is where a repository keeps what a validator reads.
const e2eDir = "e2e"

// errSuite is what is wrong with the e2e/ directory itself.
var errSuite = errors.New("the repository's e2e directory")

// A suite is e2e/e2e.yml. Its meaning is the validator's alone: sand-boxer
// uploads the file with the rest of the tree and never opens it.
type suite struct {
	Version int     `yaml:"version"`
	Compose string  `yaml:"compose"` // path of the compose file within e2e/
	Checks  []check `yaml:"checks"`
}

// A check is one request and what must come back.
type check struct {
	Name    string      `yaml:"name"`
	Service string      `yaml:"service"`
	Port    int         `yaml:"port"`
	Path    string      `yaml:"path"`
	Expect  expectation `yaml:"expect"`
}

type expectation struct {
	Status int            `yaml:"status"`
	JSON   map[string]any `yaml:"json"` // members that the answer must have; it may have more
}

func readSuite(repo string) (suite, error) {
	var s suite
	text, err := os.ReadFile(filepath.Join(repo, e2eDir, "e2e.yml"))
	if err != nil {
		return s, fmt.Errorf("%w: %w", errSuite, err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&s); err != nil {
		return s, fmt.Errorf("%w: e2e.yml: %w", errSuite, err)
	}
	if s.Version != 1 || len(s.Checks) == 0 || !filepath.IsLocal(s.Compose) {
		return s, fmt.Errorf("%w: e2e.yml must have version 1, a compose file and checks", errSuite)
	}
	if _, err := os.Stat(filepath.Join(repo, e2eDir, s.Compose)); err != nil {
		return s, fmt.Errorf("%w: %w", errSuite, err)
	}
	return s, nil
}

// met says what is not as expected.
func (e expectation) met(status int, body []byte) error {
	if status != e.Status {
		return fmt.Errorf("status %d, want %d", status, e.Status)
	}
	if len(e.JSON) == 0 {
		return nil
	}
	var got, want map[string]any
	if err := json.Unmarshal(body, &got); err != nil {
		return fmt.Errorf("the answer is not a JSON object: %w", err)
	}
	wanted, err := json.Marshal(e.JSON) // and back: numbers are then of one type
	if err != nil {
		return err
	}
	if err := json.Unmarshal(wanted, &want); err != nil {
		return err
	}
	for _, member := range slices.Sorted(maps.Keys(want)) {
		if !reflect.DeepEqual(got[member], want[member]) {
			return fmt.Errorf("%s is %v, want %v", member, got[member], want[member])
		}
	}
	return nil
}
