// Generate builds a program for every architecture and records how. It runs in the directory of the package that the
// program serves:
//
//	generate NAME MAIN SOURCE...
package main

import (
	"fmt"
	"os"

	"github.com/sand-boxer/sandboxer/compose/internal/program"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: generate NAME MAIN SOURCE...")
		os.Exit(2)
	}
	if err := generate(".", program.Recipe{Name: os.Args[1], Main: os.Args[2], Sources: os.Args[3:]}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func generate(dir string, r program.Recipe) error {
	toolchain, err := program.Toolchain()
	if err != nil {
		return err
	}
	source, err := r.Hash(dir)
	if err != nil {
		return err
	}
	record := program.Record{Go: toolchain, Source: source, Binaries: map[string]string{}}
	for _, arch := range program.Architectures() {
		binary, err := r.Build(dir, arch)
		if err != nil {
			return err
		}
		compressed, err := program.Compress(binary)
		if err != nil {
			return err
		}
		if err := os.WriteFile(program.BinaryName(r.Name, arch), compressed, 0o644); err != nil {
			return err
		}
		record.Binaries[arch] = program.Sum(binary)
	}
	return os.WriteFile(program.RecordName, []byte(record.String()), 0o644)
}
