// Generate builds the relay program for every architecture and records how. It runs in the directory of package relay.
package main

import (
	"fmt"
	"os"

	"github.com/sand-boxer/sandboxer/compose/internal/relay/recipe"
)

func main() {
	if err := generate("."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func generate(dir string) error {
	toolchain, err := recipe.Toolchain()
	if err != nil {
		return err
	}
	source, err := recipe.Source(dir)
	if err != nil {
		return err
	}
	record := recipe.Record{Go: toolchain, Source: source, Binaries: map[string]string{}}
	for _, arch := range recipe.Architectures() {
		binary, err := recipe.Build(dir, arch)
		if err != nil {
			return err
		}
		compressed, err := recipe.Compress(binary)
		if err != nil {
			return err
		}
		if err := os.WriteFile(recipe.BinaryName(arch), compressed, 0o644); err != nil {
			return err
		}
		record.Binaries[arch] = recipe.Sum(binary)
	}
	return os.WriteFile(recipe.RecordName, []byte(record.String()), 0o644)
}
