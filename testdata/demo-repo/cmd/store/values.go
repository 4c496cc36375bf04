package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"sync"
)

var errExists = errors.New("the key exists already")

// values is a map kept in a file: what put has accepted survives a crash.
type values struct {
	path string

	mu    sync.Mutex
	byKey map[string]string
}

func openValues(path string) (*values, error) {
	v := &values{path: path, byKey: map[string]string{}}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return nil, err
	}
	return v, json.Unmarshal(content, &v.byKey)
}

func (v *values) get(key string) (string, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	value, ok := v.byKey[key]
	return value, ok
}

func (v *values) put(key, value string, onlyNew bool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, exists := v.byKey[key]; exists && onlyNew {
		return errExists
	}
	next := maps.Clone(v.byKey)
	next[key] = value
	if err := save(v.path, next); err != nil {
		return err
	}
	v.byKey = next
	return nil
}

// save replaces the file in one step.
func save(path string, byKey map[string]string) error {
	content, err := json.Marshal(byKey)
	if err != nil {
		return err
	}
	file, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write(content); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
