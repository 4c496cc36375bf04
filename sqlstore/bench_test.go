package sqlstore_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/sand-boxer/sandboxer"
)

// BenchmarkUpdate is one change of a record with its event, on the disk when it returns.
func BenchmarkUpdate(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "sandboxer.db"))
	r := record(1)
	create(b, s, r)
	for b.Loop() {
		if err := s.Update(b.Context(), r, event(r, 1)...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// BenchmarkListLiving finds a few living sandboxes among many destroyed ones.
func BenchmarkListLiving(b *testing.B) {
	for _, destroyed := range []int{0, 2000} {
		b.Run(fmt.Sprint(destroyed), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "sandboxer.db"))
			for n := range destroyed + 20 {
				r := record(n)
				if n < destroyed {
					r.Sandbox.State = sandboxer.StateDestroyed
				}
				create(b, s, r)
			}
			living := sandboxer.Filter{States: []sandboxer.State{sandboxer.StateRequested, sandboxer.StateReady, sandboxer.StateActive}}
			for b.Loop() {
				records, err := s.List(b.Context(), living)
				if err != nil || len(records) != 20 {
					b.Fatal(len(records), err)
				}
			}
		})
	}
}
