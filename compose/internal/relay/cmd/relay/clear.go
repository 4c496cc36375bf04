//go:build linux

package main

import "os"

// clearDir empties a directory. What cannot be removed does not save the rest.
func clearDir(dir string) {
	var first error
	note := func(err error) {
		if first == nil {
			first = err
		}
	}
	entries, err := os.ReadDir(dir)
	note(err)
	for _, entry := range entries {
		note(os.RemoveAll(dir + "/" + entry.Name()))
	}
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		note(err)
		if first == nil {
			fail(dir + "/" + left[0].Name() + ": appeared while the directory was cleared")
		}
	}
	if first != nil {
		fail(first.Error())
	}
}
