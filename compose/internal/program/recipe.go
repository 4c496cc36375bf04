// Package program is about the static programs that run in containers of ours. A library cannot compile on its user's
// machine, so that the binaries are committed, each with a record of what it was made of.
package program

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// RecordName is the name of the file that holds a [Record].
const RecordName = "BUILD"

// Architectures are those of the binaries, as Go names them.
func Architectures() []string { return []string{"amd64", "arm64"} }

// A Recipe says how a program is built. Its binaries and their record lie in the directory of the package it serves.
type Recipe struct {
	Name    string   // of the program
	Main    string   // its directory, as "./cmd/NAME" from the package's
	Sources []string // directories of all that it is made of, likewise
}

// BinaryName is the name of a program's compressed binary for an architecture.
func BinaryName(name, arch string) string { return name + "_linux_" + arch + ".gz" }

// Record says what the binaries were made of and with.
type Record struct {
	Go       string            // the toolchain: "go1.26.8"
	Source   string            // SHA-256 of the sources, in hex
	Binaries map[string]string // SHA-256 of the uncompressed binaries, in hex, by architecture
}

// String is the record as a file.
func (r Record) String() string {
	lines := []string{"go " + r.Go, "source " + r.Source}
	for _, arch := range Architectures() {
		lines = append(lines, arch+" "+r.Binaries[arch])
	}
	return strings.Join(lines, "\n") + "\n"
}

// ParseRecord reads a record's file.
func ParseRecord(text string) (Record, error) {
	r := Record{Binaries: map[string]string{}}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case !ok:
			return r, fmt.Errorf("%s: line %q is not a key and a value", RecordName, line)
		case key == "go":
			r.Go = value
		case key == "source":
			r.Source = value
		case slices.Contains(Architectures(), key):
			r.Binaries[key] = value
		default:
			return r, fmt.Errorf("%s: unknown key %q", RecordName, key)
		}
	}
	return r, nil
}

// Hash is that of the program's sources, tests excluded. Dir is the package's directory.
func (r Recipe) Hash(dir string) (string, error) {
	var all bytes.Buffer
	for _, source := range r.Sources {
		files, err := filepath.Glob(filepath.Join(dir, source, "*.go"))
		if err != nil {
			return "", err
		}
		for _, file := range files { // sorted
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			content, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			content = bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n"))
			fmt.Fprintf(&all, "%s/%s %d\n%s", source, filepath.Base(file), len(content), content)
		}
	}
	return Sum(all.Bytes()), nil
}

// Toolchain is the version of the go command.
func Toolchain() (string, error) {
	version, err := command("go", "env", "GOVERSION").Output()
	return strings.TrimSpace(string(version)), err
}

// Build compiles the program for an architecture. The same sources and toolchain give the same bytes on any machine.
func (r Recipe) Build(dir, arch string) ([]byte, error) {
	temp, err := os.MkdirTemp("", r.Name)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	binary := filepath.Join(temp, r.Name)
	build := command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", binary, r.Main)
	build.Dir = dir
	build.Env = append(build.Env, "GOOS=linux", "GOARCH="+arch)
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build for %s: %w\n%s", arch, err, output)
	}
	return os.ReadFile(binary)
}

// command runs with none of the settings that would change a binary.
func command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOTOOLCHAIN=local", "GOWORK=off", "GOEXPERIMENT=",
		"GOFIPS140=off", "GOAMD64=v1", "GOARM64=v8.0", "GODEBUG=")
	return c
}

// Sum is the SHA-256 of some bytes, in hex.
func Sum(content []byte) string { return fmt.Sprintf("%x", sha256.Sum256(content)) }

// Compress is the form in which a binary is committed.
func Compress(binary []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
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
