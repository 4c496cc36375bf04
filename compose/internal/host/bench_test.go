//go:build linux

package host

import (
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/compose/internal/remote"
	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

// BenchmarkSteps reports how many milliseconds each step of a sandbox's life
// takes, the median and the least, with a tree of 201 files and one container without network.
func BenchmarkSteps(b *testing.B) {
	b.Run("local", func(b *testing.B) { benchmark(b, localRig(b, Config{})) })
	b.Run("ssh", func(b *testing.B) {
		server := sshtest.Start(b, sshtest.Options{})
		benchmark(b, newRig(b, Config{}, func() remote.Host { return sshHost(b, server, server.Addr) }))
	})
}

func benchmark(b *testing.B, g *rig) {
	files := map[string]string{}
	for i := range 200 {
		files[fmt.Sprintf("dir%d/file%d", i%20, i)] = fmt.Sprint("content ", i)
	}
	image := g.image()
	tree := g.snapshot(files)
	took := map[string][]time.Duration{}
	step := func(name string, do func() error) {
		began := time.Now()
		if err := do(); err != nil {
			b.Fatalf("%s: %v", name, err)
		}
		took[name] = append(took[name], time.Since(began))
	}
	for b.Loop() {
		s := &sandbox{rig: g, id: newID(), tree: tree}
		step("probe", func() error { _, err := g.ProbeNow(b.Context()); return err })
		step("reserve", func() (err error) { s.Reserved, err = g.Reserve(b.Context(), s.reservation()); return err })
		step("upload", func() error { return g.Upload(b.Context(), s.Reserved, tree, "0:0", source, nil) })
		step("run", func() error { return g.Run(b.Context(), s.Reserved, s.job(held(image)), io.Discard) })
		step("look", func() error { _, err := g.Look(b.Context(), s.id); return err })
		step("renew", func() error { return g.Renew(b.Context(), s.id, time.Now().Add(2*time.Hour)) })
		step("teardown", func() error { _, err := g.Teardown(b.Context(), s.id, 1); return err })
	}
	for name, all := range took {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, name+"-ms")
		b.ReportMetric(float64(all[0].Microseconds())/1000, name+"-least-ms")
	}
}
