package sandboxer_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
)

// Whatever the bytes are: no panic; a refusal says what is wrong with the
// document; what is accepted, written again, is understood the same.
func FuzzParseProfile(f *testing.F) {
	for _, pattern := range []string{"testdata/good/profiles/*", "testdata/bad/profiles/*.yaml", "profiles/*.yaml"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := sandboxer.ParseProfile("f.yaml", data)
		if err == nil {
			sameAgain(t, p)
			return
		}
		if _, ok := errors.AsType[*sandboxer.FieldError](err); !ok || !errors.Is(err, sandboxer.ErrInvalid) {
			t.Errorf("refused with %T %v, want FieldErrors", err, err)
		}
	})
}

// TestFuzzedInputsAreKept: what was found once is tried by every test, of every
// target of the repository; and no inputs are left of a target that is gone.
func TestFuzzedInputsAreKept(t *testing.T) {
	declared := regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	targets, kept := map[string]bool{}, map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir():
			return nil
		case filepath.Base(filepath.Dir(filepath.Dir(path))) == "fuzz":
			kept[filepath.Dir(path)] = true
		case strings.HasSuffix(path, "_test.go"):
			text, err := os.ReadFile(path)
			for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
				targets[filepath.Join(filepath.Dir(path), "testdata", "fuzz", m[1])] = true
			}
			return err
		}
		return nil
	})
	if err != nil || len(targets) == 0 {
		t.Fatalf("%d targets, %v", len(targets), err)
	}
	for dir := range targets {
		if !kept[dir] {
			t.Errorf("%s holds no inputs: fuzz the target (make fuzz), and keep one of those in $(go env GOCACHE)/fuzz", dir)
		}
	}
	for dir := range kept {
		if !targets[dir] {
			t.Errorf("%s holds inputs of no target", dir)
		}
	}
}
