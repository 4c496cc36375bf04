package relay

import (
	"embed"

	"github.com/sand-boxer/sandboxer/compose/internal/program"
)

//go:generate go run ../program/generate relay ./cmd/relay cmd/relay wire

//go:embed relay_linux_*.gz
var binaries embed.FS

// binary is the path of the relay in its image.
const binary = "/relay"

// Image is a root file system with nothing but the relay, as a tar archive for the engine to import. The architecture
// is the engine's, by the name that Go or the kernel gives it.
func Image(arch string) ([]byte, error) { return program.Image(binaries, "relay", arch) }
