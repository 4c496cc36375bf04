//go:build linux

package host

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/remote"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

func TestProbe(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, g *rig) {
		f, err := g.Probe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if f.Root != g.root || len(f.RootID) != 16 || f.Socket != g.cfg.Socket || f.UID != os.Getuid() || f.User == "" || !strings.HasPrefix(f.Kernel, "Linux ") {
			t.Errorf("account and root: %+v", f)
		}
		if f.CPUs < 1 || f.FreeBytes < 1<<20 || f.Compose == "" || f.Engine == "" || f.Arch == "" || f.Runtime == "" || len(f.Runtimes) == 0 || f.Sandboxes != 0 || f.ClockSkew.Abs() > 2*time.Second {
			t.Errorf("facts: %+v", f)
		}
		g.reserve(nil)
		if again, err := g.Probe(t.Context()); err != nil || again != f {
			t.Errorf("a second probe within a minute asked again: %v", err)
		}
		if now, err := g.ProbeNow(t.Context()); err != nil || now.Sandboxes != 1 || now.RootID != f.RootID {
			t.Errorf("probed now: %+v, error %v", now, err)
		}
	})
}

// TestProbeSaysWhatIsMissing uses hosts that lack something, by real means.
func TestProbeSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	unanswered := filepath.Join(t.TempDir(), "sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: unanswered})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	real, err := exec.LookPath("docker")
	if err != nil {
		t.Skip(err)
	}
	fake := func(compose string) string {
		return "#!/bin/sh\n[ \"$1\" = compose ] || exec " + real + " \"$@\"\nshift\n" + compose
	}
	tests := []struct {
		name, docker, login, socket string
		message, hint               string
	}{
		{name: "no socket", socket: "/nonexistent/sock", message: "no Docker Engine listens on /nonexistent/sock", hint: "start the Docker Engine on the host, or set engine_socket in the host configuration"},
		{name: "nobody answers", socket: unanswered, message: "does not answer", hint: "start the Docker Engine on the host"},
		{
			name: "no compose plugin", docker: fake("echo \"docker: 'compose' is not a docker command.\" >&2; exit 1\n"),
			message: "the host's docker has no compose plugin", hint: "install the docker compose plugin 2.21 or newer on the host",
		},
		{
			name: "old compose", docker: fake("case $* in version*) echo 2.20.3 ;; *) echo '  --progress string' ;; esac\n"),
			message: "the host's compose plugin 2.20.3 is too old", hint: "install the docker compose plugin 2.21 or newer on the host",
		},
		{
			name: "compose without progress", docker: fake("case $* in version*) echo dev ;; *) echo '  --project-name' ;; esac\n"),
			message: "the host's compose plugin dev is too old", hint: "install the docker compose plugin 2.21 or newer on the host",
		},
		{
			name: "no docker", login: "exec unshare -m sh -c 'for d in $(which -a docker); do mount --bind /dev/null $d; done; exec sh \"$@\"' sh \"$@\"\n",
			message: "the host has no docker command", hint: "install Docker Engine 20.10 or newer on the host; Debian: apt-get install docker.io",
		},
		{
			name: "no tools", login: "exec unshare -m sh -c 'for c in flock setsid; do for d in $(which -a $c); do mount --bind /dev/null $d; done; done; exec sh \"$@\"' sh \"$@\"\n",
			message: "the host lacks flock, setsid", hint: "install them on the host; Debian: coreutils util-linux tar gzip findutils sed grep mawk",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.login != "" && os.Getuid() != 0 {
				t.Skip("hiding a command needs root")
			}
			g := loginRig(t, tt.docker, tt.login, tt.socket)
			_, err := g.Probe(t.Context())
			assertIs(t, err, sandboxer.ErrUnavailable)
			if err == nil || !strings.Contains(err.Error(), tt.message) || sandboxer.Hint(err) != tt.hint {
				t.Errorf("error %v\nhint %q", err, sandboxer.Hint(err))
			}
		})
	}
}

// loginRig is a host on which a login finds another docker command, or is
// prepared by a script that has to run "$@" with sh.
func loginRig(t *testing.T, docker, login, socket string) *rig {
	t.Helper()
	dir := t.TempDir()
	if docker != "" {
		put(t, filepath.Join(dir, "docker"), []byte(docker), 0o755)
	}
	if login == "" {
		login = "exec sh \"$@\"\n"
	}
	put(t, filepath.Join(dir, "login"), []byte("#!/bin/sh\nPATH="+dir+":$PATH; export PATH\n"+login), 0o755)
	server := sshtest.Start(t, sshtest.Options{Home: dir, LoginShell: filepath.Join(dir, "login")})
	g := newRig(t, Config{}, func() remote.Host { return sshHost(t, server, server.Addr) })
	if socket != "" {
		g.cfg.Socket = socket
	}
	return g
}

func TestProbeOnceForAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	count := filepath.Join(dir, "count")
	real, err := exec.LookPath("docker")
	if err != nil {
		t.Skip(err)
	}
	g := loginRig(t, "#!/bin/sh\n[ \"$2\" != version ] || echo >>"+count+"\nexec "+real+" \"$@\"\n", "", "")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := g.Probe(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if text, err := os.ReadFile(count); err != nil || len(text) != 1 {
		t.Errorf("the host was probed %d times, error %v", len(text), err)
	}
}

func TestEscapable(t *testing.T) {
	for version, want := range map[string]bool{
		"1.1.5+ds1": true, "1.2.7": true, "1.2.8": false, "1.2.9": false, "1.3.0": true, "1.3.2": true, "1.3.3": false,
		"1.4.0": false, "1.3.3-0ubuntu1": false, "": false,
	} {
		if got := escapable(version); got != want {
			t.Errorf("runc %q escapable: %v", version, got)
		}
	}
}

func TestParseFacts(t *testing.T) {
	t.Parallel()
	const good = "root /r\nroot_id 0123\nsocket /s\nuser u\nuid 5\nclock 1000\ncompose 2.40.3\nmemory yes\n"
	tests := []struct{ name, out, message, warning string }{
		{"good", good, "", ""},
		{"not allowed", good + "socket_state refused\n", "user u may not use /s", ""},
		{"several tools", good + "missing gzip\nmissing flock\n", "the host lacks gzip, flock", ""},
		{"vulnerable compose", strings.Replace(good, "2.40.3", "v2.40.1-desktop.1", 1), "", "CVE-2025-62725"},
		{"old compose", strings.Replace(good, "2.40.3", "v2.20.9", 1), "v2.20.9 is too old", ""},
		{"source build", strings.Replace(good, "2.40.3", "dev\ncompose_progress yes", 1), "", ""},
		{"old source build", strings.Replace(good, "2.40.3", "dev", 1), "dev is too old", ""},
		{"no file system in memory", strings.Replace(good, "memory yes\n", "", 1), "", "/dev/shm"},
		{"another clock", strings.Replace(good, "clock 1000", "clock 5000", 1), "", "clock differs by 1h6m40s"},
	}
	for _, tt := range tests {
		f, err := parseFacts(tt.out, time.Unix(1000, 0))
		switch {
		case tt.message != "":
			if err == nil || !strings.Contains(err.Error(), tt.message) {
				t.Errorf("%s: error %v", tt.name, err)
			}
		case err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.warning == "" && len(f.Warnings) > 0 || !strings.Contains(strings.Join(f.Warnings, "\n"), tt.warning):
			t.Errorf("%s: warnings %q", tt.name, f.Warnings)
		default:
			saysWhatToDo(t, f.Warnings)
		}
	}
}

// saysWhatToDo: a warning has a second line, as sandboxer.HostProber promises.
func saysWhatToDo(t *testing.T, warnings []string) {
	t.Helper()
	for _, w := range warnings {
		if _, remedy, _ := strings.Cut(w, "\n"); remedy == "" || strings.Contains(remedy, "\n") {
			t.Errorf("the warning %q does not say on a second line what to do", w)
		}
	}
}

// TestBuildAgain: a build that fails because somebody removed what it was
// about to use is made again.
func TestBuildAgain(t *testing.T) {
	t.Parallel()
	real, err := exec.LookPath("docker")
	if err != nil {
		t.Skip(err)
	}
	count := filepath.Join(t.TempDir(), "count")
	g := loginRig(t, `#!/bin/sh
case "$*" in *" build") echo >>`+count+`; if [ "$(wc -l <`+count+`)" -lt 3 ]; then echo "No such image: sha256:571f"; exit 1; fi ;; esac
exec `+real+` "$@"
`, "", hosttest.Socket())
	s := g.reserve(map[string]string{"Dockerfile": unique(dockerfile)})
	out := s.mustRun(strings.Replace(chatty, "network_mode: none", "network_mode: none\n    command: [hold]", 1))
	// one more only if the engine really missed an image besides
	really := strings.Contains(strings.ReplaceAll(out, "No such image: sha256:571f", ""), "No such image")
	if text, err := os.ReadFile(count); err != nil || len(text) < 3 || len(text) > 3 && !really {
		t.Errorf("built %d times, error %v", len(text), err)
	}
}
