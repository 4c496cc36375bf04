package relay

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/compose/internal/relay/recipe"
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
	text, err := os.ReadFile(recipe.RecordName)
	if err != nil {
		t.Fatal(err)
	}
	record, err := recipe.ParseRecord(string(text))
	if err != nil {
		t.Fatal(err)
	}
	source, err := recipe.Source(".")
	if err != nil {
		t.Fatal(err)
	}
	if source != record.Source {
		t.Errorf("the relay's sources have changed: run go generate ./compose/internal/relay")
	}
	toolchain, err := recipe.Toolchain()
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range recipe.Architectures() {
		embedded, err := binaryFor(arch)
		if err != nil {
			t.Fatal(err)
		}
		if recipe.Sum(embedded) != record.Binaries[arch] {
			t.Errorf("%s: the embedded binary is not the recorded one", arch)
		}
		if toolchain != record.Go {
			t.Logf("%s: built with %s, which is needed to compare what it builds", arch, record.Go)
			continue
		}
		built, err := recipe.Build(".", arch)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(built, embedded) {
			t.Errorf("%s: the sources build something else than the embedded binary", arch)
		}
	}
}
