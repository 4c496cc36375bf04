//go:build linux

package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

// held is a service of the test's image that just runs.
func held(image string) string {
	return `
services:
  web: {image: "` + image + `", command: [hold], network_mode: none, labels: {labels}, stop_grace_period: 0s}
`
}

// chatty takes a while to build, and says a lot.
const chatty = `
services:
  web:
    image: sandboxer.local/{id}/web:g1
    build: {context: "{dir}/src", labels: {dev.sandboxer.id: "{id}"}}
    labels: {labels}
    network_mode: none
`

const chattyDockerfile = dockerfile + `RUN ["/app", "chatter", "150", "10ms"]` + "\n"

// TestRunOverACutLink: whatever the moment at which the link breaks, the job
// runs once, and its output arrives once.
func TestRunOverACutLink(t *testing.T) {
	t.Parallel()
	g, proxy := proxyRig(t)
	s := g.reserve(map[string]string{"Dockerfile": unique(chattyDockerfile)})
	stop := make(chan struct{})
	var breaking sync.WaitGroup
	breaking.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(150+i*i*20) * time.Millisecond): // longer and longer, so that it ends on any machine
			}
			switch i % 3 {
			case 0:
				proxy.Reset()
			case 1:
				proxy.Cut()
			case 2:
				proxy.CutAfter(sshtest.ToClient, int64(500+i*211))
			}
		}
	})
	out := s.mustRun(chatty)
	close(stop)
	breaking.Wait()
	proxy.CutAfter(sshtest.ToClient, 1<<40) // instead of the last one
	written, err := os.ReadFile(filepath.Join(g.root, "sb", s.id, "jobs/up/out"))
	if err != nil || out != string(written) {
		t.Errorf("received %d bytes of output, the job wrote %d (%v):\n%s", len(out), len(written), err, out)
	}
	for _, once := range []string{"::stage up\n", "line 1 of 150\n", "line 150 of 150\n"} {
		if strings.Count(out, once) != 1 {
			t.Errorf("%d times %q in the output", strings.Count(out, once), once)
		}
	}
	if proxy.Opened() < 4 {
		t.Errorf("%d connections: the link did not break", proxy.Opened())
	}
	if objects, err := g.Objects(t.Context(), s.id); err != nil || len(objects) != 2 {
		t.Errorf("objects %v, error %v; want an image and a container", objects, err)
	}
}

func TestRunByTwoProcesses(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, g *rig) {
		s := g.reserve(map[string]string{"Dockerfile": unique(chattyDockerfile)})
		j := s.job(chatty)
		outs := make([]bytes.Buffer, 3)
		var all sync.WaitGroup
		for i := range outs {
			m := g.another()
			all.Go(func() {
				if err := m.Run(t.Context(), s.Reserved, j, &outs[i]); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for i := range outs {
			if strings.Count(outs[i].String(), "line 150 of 150\n") != 1 || outs[i].String() != outs[0].String() {
				t.Errorf("process %d saw\n%s", i, outs[i].String())
			}
		}
	})
}

func TestRunAgainAfterTheEnd(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{})
	s := g.reserve(nil)
	compose := held(g.image())
	first := s.mustRun(compose)
	if again := s.mustRun(compose); again != first {
		t.Errorf("the second run gave\n%s\nthe first\n%s", again, first)
	}
	adopted, err := g.another().Reserve(t.Context(), s.reservation())
	if err != nil || len(adopted.Networks) != 0 {
		t.Errorf("adopted %+v, error %v", adopted, err)
	}
}

func TestRunKeepsItsNetworks(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{})
	s := g.reserve(nil)
	j := s.job("nonsense: {subnet}")
	assertIs(t, s.Run(t.Context(), s.Reserved, j, io.Discard), sandboxer.ErrProvision)
	adopted, err := g.Reserve(t.Context(), s.reservation())
	if err != nil || adopted.Networks["default"] != j.Networks["default"] {
		t.Errorf("adopted networks %v, error %v; want %v", adopted.Networks, err, j.Networks)
	}
}

// TestRunAfterTheTreeWent: a tree may go between the upload and the run when
// the last other sandbox that uses it is destroyed; the next try brings it back.
func TestRunAfterTheTreeWent(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{})
	s := g.reserve(nil)
	if err := os.RemoveAll(filepath.Join(g.root, "cache/src", s.Tree)); err != nil {
		t.Fatal(err)
	}
	_, err := s.run("nonsense: {subnet}")
	assertIs(t, err, ErrTreeGone)
	again, err := g.Reserve(t.Context(), s.reservation())
	if err != nil || again.Cached || len(again.Networks) > 0 {
		t.Fatalf("reserved %+v, error %v", again, err)
	}
	if err := g.Upload(t.Context(), again, s.tree, "0:0", "x", nil); err != nil {
		t.Fatal(err)
	}
	s.mustRun(held(g.image()))
}

func TestRunOfAKilledJob(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, g *rig) {
		s := g.reserve(map[string]string{"Dockerfile": unique(chattyDockerfile)})
		ended := make(chan error, 1)
		go func() {
			_, err := s.run(chatty)
			ended <- err
		}()
		s.kill("jobs/up/run")
		err := <-ended
		assertIs(t, err, sandboxer.ErrUnavailable)
		if !isExit(err, 76) {
			t.Errorf("error %v does not say that the job was killed", err)
		}
	})
}

// kill ends the first process that names the sandbox's file, once there is one.
func (s *sandbox) kill(file string) {
	killed := eventually(20*time.Second, func() bool {
		for _, p := range s.processes(filepath.Join("sb", s.id, file)) {
			pid, _, _ := strings.Cut(p, " ")
			return exec.Command("kill", "-9", pid).Run() == nil
		}
		return false
	})
	if !killed {
		s.t.Errorf("nothing to kill that names %s", file)
	}
}

// TestFollowersAreWoken: on a host where a pause of a second takes five
// minutes, whoever follows a job or waits for a place is told.
func TestFollowersAreWoken(t *testing.T) {
	t.Parallel()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	put(t, filepath.Join(dir, "sleep"), []byte("#!/bin/sh\n[ \"$1\" != 1 ] || set -- 300\nexec "+sleep+" \"$@\"\n"), 0o755)
	g := loginRig(t, "", "PATH="+dir+":$PATH exec sh \"$@\"\n", "")
	first, second := g.reserve(map[string]string{"Dockerfile": unique(chattyDockerfile)}), g.reserve(nil)
	places := takePlaces(t, g)
	began := time.Now()
	var all sync.WaitGroup
	all.Go(func() { first.mustRun(chatty) })
	all.Go(func() { second.mustRun(held(second.image())) })
	for _, s := range []*sandbox{first, second} {
		if !eventually(time.Minute, func() bool { _, err := os.Stat(filepath.Join(g.root, "sb", s.id, "jobs/up/stage")); return err == nil }) {
			t.Error("a job did not begin")
		}
	}
	time.Sleep(100 * time.Millisecond) // both wait now, one for its turn
	places[0].Close()
	waiting, err := os.ReadFile(filepath.Join(g.root, "slots/waiting"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.Fields(string(waiting))[0])
	if err != nil || syscall.Kill(pid, syscall.SIGUSR1) != nil { // as a job that ends would
		t.Fatalf("%q waits for a place", waiting)
	}
	all.Wait()
	if took := time.Since(began); took > 4*time.Minute {
		t.Errorf("it took %v", took)
	}
}

// takePlaces takes all places for heavy work of a host.
func takePlaces(t *testing.T, g *rig) []*os.File {
	t.Helper()
	var places []*os.File
	for i := range 2 * runtime.NumCPU() {
		f, err := os.OpenFile(filepath.Join(g.root, "slots", fmt.Sprintf("up.%d", i)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			t.Fatal(err)
		}
		places = append(places, f)
	}
	return places
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, g *rig) {
		s := g.reserve(map[string]string{"Dockerfile": unique(chattyDockerfile)})
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("enough"))
		defer cancel()
		err := s.Run(ctx, s.Reserved, s.job(chatty), io.Discard)
		if err == nil || !strings.Contains(err.Error(), "enough") {
			t.Errorf("error %v, want the context's", err)
		}
		s.mustRun(chatty) // the job went on, and ends well
		if g.another().Close(); !eventually(5*time.Second, func() bool { return len(g.processes("")) <= 1 }) {
			t.Errorf("besides the reaper there still run %q", g.processes(""))
		}
	})
}

func TestRunExplainsItsFailure(t *testing.T) {
	t.Parallel()
	image := func(s *sandbox) string { return s.image() }
	tests := []struct {
		name, dockerfile string
		compose          func(*sandbox) string
		bound            time.Duration
		stage, message   string
		code             int
		log              string
	}{
		{
			name:    "config",
			compose: func(*sandbox) string { return "services: {web: {image: x, nonsense: 1}}" },
			stage:   "config", code: 1, message: "additional properties 'nonsense' not allowed",
		},
		{
			name: "pull",
			compose: func(*sandbox) string {
				return `services: {web: {image: "127.0.0.1:1/none:1"}, other: {image: "127.0.0.1:1/other:1"}}`
			},
			stage: "pull", code: 1, message: "connection refused", log: "Pulling",
		},
		{
			name: "build", dockerfile: dockerfile + `RUN ["/app", "fail"]` + "\n",
			compose: func(*sandbox) string { return chatty },
			stage:   "build", code: 7, message: "returned a non-zero code: 7", log: "the reason, for people",
		},
		{
			name: "build that takes too long", dockerfile: dockerfile + `RUN ["/app", "hold"]` + "\n",
			compose: func(*sandbox) string { return chatty }, bound: 3 * time.Second,
			stage: "build", code: 124, message: "docker compose build was ended: it took longer than 3 seconds",
		},
		{
			name: "up",
			compose: func(s *sandbox) string {
				return strings.Replace(held(image(s)), "[hold]", "[hold], entrypoint: [/nope]", 1)
			},
			stage: "up", code: 1, message: `exec: "/nope"`,
		},
		{
			name: "up of what ends at once",
			compose: func(s *sandbox) string {
				ref := image(s)
				return held(ref) + `  first: {image: "` + ref + `", command: [fail], network_mode: none, labels: {labels}}
  second: {image: "` + ref + `", network_mode: none, labels: {labels}, depends_on: {first: {condition: service_completed_successfully}}}
`
			},
			stage: "up", code: 1, message: `service "first" didn't complete successfully: exit 7`,
		},
	}
	g := localRig(t, Config{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := g.in(t).reserve(map[string]string{"Dockerfile": unique(tt.dockerfile)})
			j := s.job(tt.compose(s))
			j.Images = [][2]string{{"web", "127.0.0.1:1/none:1"}, {"other", "127.0.0.1:1/other:1"}}
			if tt.stage != "pull" {
				j.Images = nil
			}
			if tt.bound > 0 {
				j.Bound = tt.bound
			}
			var out bytes.Buffer
			err := s.Run(t.Context(), s.Reserved, j, &out)
			var stage *sandboxer.StageError
			if !errors.As(err, &stage) {
				t.Fatalf("error is %v\n%s", err, out.String())
			}
			if stage.Stage != tt.stage || stage.ExitCode != tt.code || !strings.Contains(stage.Message, tt.message) || strings.Contains(stage.Message, "\n") {
				t.Errorf("stage %q, code %d, message %q\nlog:\n%s", stage.Stage, stage.ExitCode, stage.Message, stage.Log)
			}
			if !strings.Contains(stage.Log, tt.log) || strings.Contains(stage.Log, "::stage") {
				t.Errorf("log:\n%s", stage.Log)
			}
			_, again := s.run("")
			if !errors.As(again, &stage) || stage.Error() != err.Error() {
				t.Errorf("asked again the error is %v, before it was %v", again, err)
			}
		})
	}
}

// TestRunBlamesTheFile only if compose says so: one that was killed while it
// was asked says nothing, and the stage stays the one that a teardown has to
// clear up after.
func TestRunBlamesTheFile(t *testing.T) {
	t.Parallel()
	real, err := exec.LookPath("docker")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, config, stage, message string
		code                         int
	}{
		{"it reads it", "exit 0", "build", "broken", 1},
		{"it does not", "echo unreadable; exit 15", "config", "unreadable", 15},
		{"it was killed", "kill -9 $$", "build", "broken", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := loginRig(t, "#!/bin/sh\ncase \"$*\" in *' build') echo broken; exit 1 ;; *' config -q') "+tt.config+" ;; esac\nexec "+real+" \"$@\"\n", "", hosttest.Socket())
			s := g.reserve(map[string]string{"Dockerfile": unique(dockerfile)})
			_, err := s.run(chatty)
			var stage *sandboxer.StageError
			if !errors.As(err, &stage) || stage.Stage != tt.stage || stage.ExitCode != tt.code || stage.Message != tt.message {
				t.Errorf("error %v, want stage %s with code %d", err, tt.stage, tt.code)
			}
			if text, err := os.ReadFile(filepath.Join(g.root, "sb", s.id, "jobs/up/stage")); err != nil || string(text) != "build\n" {
				t.Errorf("the stage that it came to is %q, %v", text, err)
			}
		})
	}
}

// TestRunPlacesItsFiles: what is pinned lies outside the workspace, the
// workspace is a copy.
func TestRunPlacesItsFiles(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{})
	s := g.reserve(map[string]string{"conf/a": "a", "conf/b": "b"})
	j := s.job("nonsense: 1")
	j.Mkdirs = []string{"new/deep dir", "conf"}
	j.Files = append(j.Files, File{Path: "pins/data", Mode: 0o640, Data: []byte("data")}, File{Path: "pins/empty", Dir: true}, File{Path: "pins/copy", Copy: "conf"})
	assertIs(t, s.Run(t.Context(), s.Reserved, j, io.Discard), sandboxer.ErrProvision)
	dir := filepath.Join(g.root, "sb", s.id)
	for file, mode := range map[string]os.FileMode{
		"pins/data": 0o640, "pins/empty": os.ModeDir | 0o755, "pins/copy/b": 0o644, "src/new/deep dir": os.ModeDir | 0o755, "src": os.ModeDir | 0o755, "src/app": 0o755, "compose.yaml": 0o600,
	} {
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v %v, want mode %v", file, info, err, mode)
		}
	}
	put(t, filepath.Join(dir, "src/conf/a"), []byte("written by a container"), 0o644)
	if cached, err := os.ReadFile(filepath.Join(g.root, "cache/src", s.Tree, "tree/conf/a")); err != nil || string(cached) != "a" {
		t.Errorf("the cached file is %q, %v", cached, err)
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	for subnet, want := range map[string]string{
		"10.1.2.16/28": "10.1.2.16_28",
		"10.1.2.20/30": "10.1.2.16_28",
		"10.1.2.32/27": "10.1.2.32_28 10.1.2.48_28",
		"10.1.3.7/26":  "10.1.3.0_28 10.1.3.16_28 10.1.3.32_28 10.1.3.48_28",
	} {
		if got := strings.Join(claims(map[string]netip.Prefix{"a": netip.MustParsePrefix(subnet)}), " "); got != want {
			t.Errorf("claims of %s are %s, want %s", subnet, got, want)
		}
	}
}
