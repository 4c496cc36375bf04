package relay

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"io"
)

//go:generate go run ./recipe/generate

//go:embed relay_linux_*.gz
var binaries embed.FS

// program is the path of the relay in its image.
const program = "/relay"

// Image is a root file system with nothing but the relay, as a tar archive for the engine to import. The architecture
// is the engine's, by the name that Go or the kernel gives it.
func Image(arch string) ([]byte, error) {
	binary, err := binaryFor(arch)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	// The name is relative: engines differ in what they make of absolute ones.
	if err := w.WriteHeader(&tar.Header{Name: program[1:], Mode: 0o755, Size: int64(len(binary))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(binary); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func binaryFor(arch string) ([]byte, error) {
	name := map[string]string{"amd64": "amd64", "x86_64": "amd64", "arm64": "arm64", "aarch64": "arm64"}[arch]
	if name == "" {
		return nil, fmt.Errorf("there is no relay for the architecture %q: it runs on amd64 and arm64", arch)
	}
	compressed, err := binaries.Open("relay_linux_" + name + ".gz")
	if err != nil {
		return nil, err
	}
	defer compressed.Close()
	r, err := gzip.NewReader(compressed)
	if err != nil {
		return nil, fmt.Errorf("the embedded relay for %s: %w", name, err)
	}
	return io.ReadAll(r)
}
