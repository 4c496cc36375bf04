package compose_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
)

// BenchmarkAgainstPlainCompose times create→ready and destroy of the demo
// repository beside plain docker compose up --wait and down on the same host,
// in turn, and reports the ratios. "cold" removes the built images on both
// sides between rounds; "warm" lets plain compose keep its images, which a
// sandbox never does: it leaves nothing. "cached" is warm on a host whose
// operator lets it keep the steps of builds for a time (cache_ttl).
//
//	go test ./compose -run '^$' -bench Plain -benchtime 5x
func BenchmarkAgainstPlainCompose(b *testing.B) {
	hosttest.Require(b)
	repo := repotest.Demo(b)
	for _, mode := range []string{"cold", "warm", "cached"} {
		b.Run(mode, func(b *testing.B) {
			r := localRig(b)
			if mode == "cached" {
				host := r.host
				host.CacheTTL = sandboxer.Duration(10 * time.Minute)
				r = newRig(b, host)
				r.destroy(b, r.create(b, request(repo)).ID)
			}
			plain := plainCompose{file: filepath.Join(repo, "e2e/compose.yaml"), project: "plainbench"}
			b.Cleanup(func() { plain.run(b, "down", "-v"); plain.dropImages(b) })
			if mode != "cold" {
				plain.run(b, "build")
			}
			var create, destroy, up, down time.Duration
			for b.Loop() {
				start := time.Now()
				s, err := r.Create(b.Context(), request(repo))
				if err != nil {
					b.Fatalf("%v\n%s", err, logOf(err))
				}
				create += time.Since(start)
				start = time.Now()
				r.destroy(b, s.ID)
				destroy += time.Since(start)
				up += plain.run(b, "up", "-d", "--wait")
				down += plain.run(b, "down", "-v")
				if mode == "cold" {
					plain.dropImages(b)
				}
			}
			n := float64(b.N)
			b.ReportMetric(create.Seconds()/n, "create-s")
			b.ReportMetric(up.Seconds()/n, "up-s")
			b.ReportMetric(create.Seconds()/up.Seconds(), "create/up")
			b.ReportMetric(destroy.Seconds()/n, "destroy-s")
			b.ReportMetric(down.Seconds()/n, "down-s")
			b.ReportMetric(destroy.Seconds()/down.Seconds(), "destroy/down")
			b.ReportMetric(0, "ns/op")
		})
	}
}

type plainCompose struct{ file, project string }

func (p plainCompose) run(b *testing.B, args ...string) time.Duration {
	b.Helper()
	start := time.Now()
	cmd := exec.Command("docker", append([]string{"compose", "-p", p.project, "-f", p.file}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatal(fmt.Errorf("docker compose %v: %w: %s", args, err, out))
	}
	return time.Since(start)
}

// dropImages removes what plain compose built; its own --rmi stumbles over two
// names of one image.
func (p plainCompose) dropImages(b *testing.B) {
	b.Helper()
	out, err := exec.Command("docker", "compose", "-p", p.project, "-f", p.file, "config", "--images").Output()
	if err != nil {
		b.Fatal(err)
	}
	for image := range strings.FieldsSeq(string(out)) {
		if out, err := exec.Command("docker", "rmi", "-f", image).CombinedOutput(); err != nil && !strings.Contains(string(out), "No such image") {
			b.Fatalf("removing %s: %v: %s", image, err, out)
		}
	}
}
