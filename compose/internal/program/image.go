package program

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
)

// Image is a root file system with nothing but the program, at "/NAME", as a tar archive for an engine to import. The
// architecture is the engine's, by the name that Go or the kernel gives it.
func Image(binaries fs.FS, name, arch string) ([]byte, error) {
	binary, err := Binary(binaries, name, arch)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	// The name is relative: engines differ in what they make of absolute ones.
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(binary))}); err != nil {
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

// Binary is the program itself.
func Binary(binaries fs.FS, name, arch string) ([]byte, error) {
	goarch := map[string]string{"amd64": "amd64", "x86_64": "amd64", "arm64": "arm64", "aarch64": "arm64"}[arch]
	if goarch == "" {
		return nil, fmt.Errorf("there is no %s for the architecture %q: it runs on amd64 and arm64", name, arch)
	}
	compressed, err := binaries.Open(BinaryName(name, goarch))
	if err != nil {
		return nil, err
	}
	defer compressed.Close()
	r, err := gzip.NewReader(compressed)
	if err != nil {
		return nil, fmt.Errorf("the embedded %s for %s: %w", name, goarch, err)
	}
	return io.ReadAll(r)
}
