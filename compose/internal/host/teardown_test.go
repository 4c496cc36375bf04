//go:build linux

package host

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
)

func TestTeardownAgain(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, g *rig) {
		for range 2 { // of an id that never was
			if r, err := g.Teardown(t.Context(), newID(), 0); err != nil || len(r.Removed) > 0 || r.VerifiedAt.IsZero() {
				t.Errorf("removal %+v, error %v", r, err)
			}
		}
		s := g.reserve(nil)
		s.mustRun(held(g.image()))
		var all sync.WaitGroup
		for range 5 {
			m := g.another()
			all.Go(func() {
				if r, err := m.Teardown(t.Context(), s.id, 1); err != nil || r.VerifiedAt.IsZero() {
					t.Errorf("removal %+v, error %v", r, err)
				}
			})
		}
		all.Wait()
		g.assertNothing(s.id)
	})
}

// TestTeardownRemovesWhatComposeWouldLeave: objects that "docker compose down"
// does not see or cannot remove.
func TestTeardownRemovesWhatComposeWouldLeave(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{})
	image := g.image()
	s := g.reserve(nil)
	s.mustRun(`
services:
  web: {image: "` + image + `", command: [hold], volumes: [/anonymous], labels: {labels}}
networks:
  default: {internal: true, labels: {labels}, ipam: {config: [{subnet: "{subnet}"}]}}
`)
	volume := g.docker("inspect", "--format", "{{(index .Mounts 0).Name}}", "sbx-"+s.id+"-web-1")
	g.docker("compose", "-p", "sbx-"+s.id, "-f", filepath.Join(g.root, "sb", s.id, "compose.yaml"), "run", "-d", "web", "hold")
	foreign := g.docker("run", "-d", "--network", "sbx-"+s.id+"_default", image, "hold")
	t.Cleanup(func() { g.docker("rm", "-f", foreign) })
	s.destroy()
	if g.has("volume", volume) {
		t.Errorf("the anonymous volume %s is left", volume)
	}
	if state := g.docker("inspect", "--format", "{{.State.Status}} {{len .NetworkSettings.Networks}}", foreign); state != "running 0" {
		t.Errorf("the foreign container is %q, want it running and disconnected", state)
	}
}

func TestTeardownOfHalfASandbox(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{})
	compose := held(g.image())
	t.Run("directory gone", func(t *testing.T) {
		s := g.in(t).reserve(nil)
		s.mustRun(compose)
		for _, file := range []string{"sb/" + s.id, "lock/" + s.id, "cache/src/" + s.Tree} {
			if err := os.RemoveAll(filepath.Join(g.root, file)); err != nil {
				t.Fatal(err)
			}
		}
		s.destroy()
	})
	t.Run("objects gone", func(t *testing.T) {
		s := g.in(t).reserve(nil)
		s.mustRun(compose)
		g.docker("rm", "-f", "sbx-"+s.id+"-web-1")
		s.destroy()
	})
	t.Run("reserved only", func(t *testing.T) {
		s := g.in(t).reserve(nil)
		s.destroy()
	})
	t.Run("reservation killed", func(t *testing.T) {
		g := g.in(t)
		s := g.reserve(nil)
		s.destroy()
		part := filepath.Join(g.root, "sb", ".new."+s.id, "jobs")
		if err := os.MkdirAll(part, 0o700); err != nil {
			t.Fatal(err)
		}
		s.destroy()
	})
	t.Run("root gone", func(t *testing.T) {
		s := g.in(t).reserve(nil)
		s.mustRun(compose)
		if err := exec.Command("kill", "-9", g.reaper()).Run(); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(g.root); err != nil {
			t.Fatal(err)
		}
		s.destroy()
	})
}

// TestTeardownDuringRun: whenever it begins, and whatever of the job was killed
// before, nothing is left, and the run learns of it.
func TestTeardownDuringRun(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{})
	image := g.image()
	compose := `
services:
  built:
    image: sandboxer.local/{id}/web:g1
    build: {context: "{dir}/src", labels: {dev.sandboxer.id: "{id}"}}
    command: [hold]
    labels: {labels}
    volumes: ["data:/data"]
`
	for i := range 4 {
		compose += fmt.Sprintf("  more%d: {image: %q, command: [hold], labels: {labels}, volumes: [\"data:/data\"]}\n", i, image)
	}
	compose += `
networks:
  default: {internal: true, labels: {labels}, ipam: {config: [{subnet: "{subnet}"}]}}
volumes:
  data: {labels: {labels}}
`
	offsets := make(chan time.Duration)
	var all sync.WaitGroup
	for worker := range 3 {
		all.Go(func() {
			for offset := range offsets {
				s := g.reserve(map[string]string{"Dockerfile": unique(dockerfile)})
				s.destroyDuring(t, compose, offset, worker)
			}
		})
	}
	for offset := time.Duration(0); offset <= 3*time.Second; offset += 150 * time.Millisecond {
		offsets <- offset
	}
	close(offsets)
	all.Wait()
}

// destroyDuring starts a run and, after a while, kills nothing, the job's shell
// or its compose; then it tears down.
func (s *sandbox) destroyDuring(t *testing.T, compose string, offset time.Duration, kill int) {
	ended := make(chan error, 1)
	go func() { ended <- s.another().Run(t.Context(), s.Reserved, s.job(compose), io.Discard) }()
	time.Sleep(offset)
	for _, victim := range s.processes(filepath.Join("sb", s.id, []string{"nothing", "jobs/up/run", "compose.yaml"}[kill])) {
		if p, err := os.FindProcess(atoi(victim)); err == nil {
			p.Kill()
		}
	}
	if _, err := s.Teardown(t.Context(), s.id, 1); err != nil {
		t.Errorf("after %v: teardown: %v", offset, err)
	}
	s.assertNothing(s.id)
	err := <-ended
	var stage *sandboxer.StageError
	if err != nil && !errors.Is(err, sandboxer.ErrConflict) && !(kill > 0 && (errors.As(err, &stage) || isExit(err, 76))) {
		t.Errorf("after %v: run: %v", offset, err)
	}
}

func atoi(s string) (n int) {
	fmt.Sscan(s, &n)
	return n
}

// TestTeardownOfAnUpload: an upload that hangs does not keep a teardown waiting.
func TestTeardownOfAnUpload(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, g *rig) {
		s := &sandbox{rig: g, id: newID(), tree: g.snapshot(nil)}
		r, err := g.Reserve(t.Context(), s.reservation())
		if err != nil {
			t.Fatal(err)
		}
		s.Reserved = r
		started, stuck := make(chan struct{}), make(chan struct{})
		ended := make(chan error, 1)
		go func() {
			var once sync.Once
			ended <- g.another().Upload(t.Context(), r, s.tree, "0:0", "x", func(int64) { once.Do(func() { close(started); <-stuck }) })
		}()
		<-started
		eventually(5*time.Second, func() bool {
			stages, _ := filepath.Glob(filepath.Join(g.root, "cache/src/.stage.*"))
			return len(stages) > 0
		})
		began := time.Now()
		s.destroy()
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("the teardown took %v", took)
		}
		close(stuck)
		assertIs(t, <-ended, sandboxer.ErrConflict)
		s.assertNothing(s.id)
	})
}

func TestTeardownGuardsGenerations(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{})
	s := g.reserve(nil)
	s.destroy()
	second := s.reservation()
	second.Generation = 2
	if _, err := g.Reserve(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	_, err := g.Teardown(t.Context(), s.id, 1)
	assertIs(t, err, sandboxer.ErrConflict)
	if sight, err := g.Look(t.Context(), s.id); err != nil || sight.Generation != 2 || sight.Destroying {
		t.Errorf("after the late teardown of generation 1: %+v %v", sight, err)
	}
	assertIs(t, s.Run(t.Context(), s.Reserved, s.job("services: {}"), io.Discard), sandboxer.ErrConflict)
	assertIs(t, s.Upload(t.Context(), &Reserved{ID: s.id, Generation: 1, Attempt: s.Attempt, Tree: s.Tree}, s.tree, "0:0", "x", nil), sandboxer.ErrConflict)
}

// TestLateTeardownsSpareTheNextGeneration: teardowns of one generation come in
// at any moment while the next is reserved.
func TestLateTeardownsSpareTheNextGeneration(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{})
	s := g.reserve(nil)
	for generation := 1; generation <= 6; generation++ {
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if _, err := g.Teardown(t.Context(), s.id, generation); err != nil && !errors.Is(err, sandboxer.ErrConflict) {
					t.Error(err)
				}
			})
		}
		next := Reservation{ID: s.id, Generation: generation + 1, Attempt: rand.Text(), Expires: time.Now().Add(time.Hour), Tree: s.Tree, Meta: []byte("{}")}
		if !eventually(30*time.Second, func() bool { _, err := g.Reserve(t.Context(), next); return err == nil }) {
			t.Fatalf("generation %d was never reserved", generation+1)
		}
		all.Wait()
		sight, err := g.Look(t.Context(), s.id)
		if err != nil || sight.Generation != generation+1 || sight.Destroying {
			t.Fatalf("generation %d is %+v, error %v", generation+1, sight, err)
		}
	}
}

// TestTeardownEndsWithItsContext: a look that was not made proves nothing.
func TestTeardownEndsWithItsContext(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, g *rig) {
		s := g.reserve(nil)
		s.mustRun(held(g.image()))
		ctx, cancel := context.WithTimeout(t.Context(), 80*time.Millisecond)
		defer cancel()
		if r, err := g.Teardown(ctx, s.id, 1); err == nil || !r.VerifiedAt.IsZero() {
			t.Errorf("removal %+v, error %v", r, err)
		}
	})
}

func TestNoteOfRemovals(t *testing.T) {
	t.Parallel()
	var r sandboxer.Removal
	left := note(&r, strings.Join([]string{
		"removed container c1 web-1", "removed volume data data", "removed container c1 web-1",
		"removed network n1 default", "left network n1 default", "removed directory /a b /a b", "",
	}, "\n"))
	if fmt.Sprint(left) != "[network default]" || fmt.Sprint(r.Removed) != "[container web-1 volume data directory b /a b]" {
		t.Errorf("left %v, removed %v", left, r.Removed)
	}
}
