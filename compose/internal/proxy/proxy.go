// Package proxy holds the program that is the only way out of a sandbox whose
// egress is an allowlist.
package proxy

import (
	"embed"

	"github.com/sand-boxer/sandboxer/compose/internal/program"
)

//go:generate go run ../program/generate proxy ./cmd/proxy cmd/proxy ../../../internal/allowlist

//go:embed proxy_linux_*.gz
var binaries embed.FS

// Path is where the program lies in its image.
const Path = "/proxy"

// Port is what it listens on.
const Port = 3128

// Image is a root file system with nothing but the program, as a tar archive
// for the engine to import. The architecture is the engine's, by the name that
// Go or the kernel gives it.
func Image(arch string) ([]byte, error) { return program.Image(binaries, "proxy", arch) }
