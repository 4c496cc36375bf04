package relay

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"io"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/compose/internal/program"
	"github.com/sand-boxer/sandboxer/compose/internal/program/programtest"
)

func TestImageIsTheProgramAlone(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{
		"amd64": elf.EM_X86_64, "x86_64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "aarch64": elf.EM_AARCH64,
	} {
		archive, err := Image(arch)
		if err != nil {
			t.Fatal(err)
		}
		files := tar.NewReader(bytes.NewReader(archive))
		header, err := files.Next()
		if err != nil || header.Name != "relay" || header.Mode != 0o755 || header.Typeflag != tar.TypeReg {
			t.Errorf("%s: %+v %v", arch, header, err)
		}
		binary, err := io.ReadAll(files)
		if err != nil {
			t.Fatal(err)
		}
		program, err := elf.NewFile(bytes.NewReader(binary))
		if err != nil || program.Machine != machine {
			t.Errorf("%s: %v %v", arch, program, err)
		}
		if libraries, err := program.ImportedLibraries(); err != nil || len(libraries) != 0 {
			t.Errorf("%s: not static: %v %v", arch, libraries, err)
		}
		if header, err := files.Next(); err != io.EOF {
			t.Errorf("%s: %+v %v", arch, header, err)
		}
		if again, err := Image(arch); err != nil || !bytes.Equal(again, archive) {
			t.Errorf("%s: not the same twice: %v", arch, err)
		}
	}
	for _, arch := range []string{"", "riscv64", "../amd64"} {
		if _, err := Image(arch); err == nil || !strings.Contains(err.Error(), "amd64 and arm64") {
			t.Errorf("%q: %v", arch, err)
		}
	}
}

func TestBinariesAreThoseOfTheSources(t *testing.T) {
	programtest.MatchesSources(t, binaries, program.Recipe{Name: "relay", Main: "./cmd/relay", Sources: []string{"cmd/relay", "wire"}})
}
