//go:build unix

package workspace

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// benchmarkTrees are the two shapes of a large repository. A source file is text of which half repeats.
func benchmarkTrees(b *testing.B, run func(b *testing.B, dir string)) {
	for _, shape := range []struct {
		name           string
		dirs, files, n int
	}{
		{"5000 files of 2 KiB", 250, 20, 2 << 10},
		{"8 files of 25 MiB", 1, 8, 25 << 20},
	} {
		b.Run(shape.name, func(b *testing.B) {
			dir := b.TempDir()
			random := rand.NewChaCha8([32]byte{1})
			content := make([]byte, shape.n)
			for d := range shape.dirs {
				sub := filepath.Join(dir, fmt.Sprintf("pkg%02d", d%25), fmt.Sprintf("dir%03d", d))
				if err := os.MkdirAll(sub, 0o755); err != nil {
					b.Fatal(err)
				}
				for f := range shape.files {
					random.Read(content[:len(content)/2])
					for i := range content[:len(content)/2] {
						content[i] = content[i]%64 + ' '
					}
					if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file%02d.go", f)), content, 0o644); err != nil {
						b.Fatal(err)
					}
				}
			}
			run(b, dir)
		})
	}
}

func BenchmarkTake(b *testing.B) {
	benchmarkTrees(b, func(b *testing.B, dir string) {
		for b.Loop() {
			s, err := Take(b.Context(), dir, Options{})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(s.Bytes())
			s.Close()
		}
	})
}

func BenchmarkWriteTar(b *testing.B) {
	benchmarkTrees(b, func(b *testing.B, dir string) {
		s := mustTake(b, dir, Options{})
		d := s.Diff(Manifest{})
		b.SetBytes(d.Bytes())
		var sent int64
		for b.Loop() {
			if err := s.WriteTar(b.Context(), io.Discard, d, func(_, n int64) { sent = n }); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(sent)/float64(d.Bytes()), "sent/byte")
	})
}
