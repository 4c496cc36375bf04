// Command generate writes docs/admission.md from the rules.
package main

import (
	"fmt"
	"os"

	"github.com/sand-boxer/sandboxer/compose/internal/admission"
)

func main() {
	if err := os.WriteFile("../../../docs/admission.md", []byte(admission.Document()), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
