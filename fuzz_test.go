package sandboxer_test

import (
	"errors"
	"os"
	"path/filepath"
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
