package workspace

import "testing"

func TestExecutableWithoutABitForIt(t *testing.T) {
	for head, want := range map[string]bool{"#!/bin/sh\n": true, "\x7fELF\x02": true, "MZ": false, "": false, "#": false} {
		if got := looksExecutable([]byte(head)); got != want {
			t.Errorf("%q: %t", head, got)
		}
	}
}
