// Package programtest checks that committed binaries are what their sources say.
package programtest

import (
	"bytes"
	"io/fs"
	"os"
	"testing"

	"github.com/sand-boxer/sandboxer/compose/internal/program"
)

// MatchesSources compares the binaries of a program with their record and, if
// the toolchain is the recorded one, with what the sources build. It runs in
// the directory of the package that the program serves.
func MatchesSources(t *testing.T, binaries fs.FS, r program.Recipe) {
	t.Helper()
	text, err := os.ReadFile(program.RecordName)
	if err != nil {
		t.Fatal(err)
	}
	record, err := program.ParseRecord(string(text))
	if err != nil {
		t.Fatal(err)
	}
	source, err := r.Hash(".")
	if err != nil {
		t.Fatal(err)
	}
	if source != record.Source {
		t.Errorf("the sources of %s have changed: run go generate in this directory", r.Name)
	}
	toolchain, err := program.Toolchain()
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range program.Architectures() {
		embedded, err := program.Binary(binaries, r.Name, arch)
		if err != nil {
			t.Fatal(err)
		}
		if program.Sum(embedded) != record.Binaries[arch] {
			t.Errorf("%s: the embedded binary is not the recorded one", arch)
		}
		if toolchain != record.Go {
			t.Logf("%s: built with %s, which is needed to compare what it builds", arch, record.Go)
			continue
		}
		built, err := r.Build(".", arch)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(built, embedded) {
			t.Errorf("%s: the sources build something else than the embedded binary", arch)
		}
	}
}
