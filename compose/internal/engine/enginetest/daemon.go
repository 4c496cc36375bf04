//go:build linux

package enginetest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/internal/hosttest"
)

// A Daemon is a Docker Engine of the test's own, in namespaces of its own: it may be stopped, and nobody else works on
// it. Its networks reach nothing outside, and it has no images.
type Daemon struct {
	Socket string

	t   testing.TB
	dir string
	cmd *exec.Cmd
}

// StartDaemon starts an engine with a daemon.json of the given text; empty is the defaults. It ends, and all it holds
// is removed, with the test. One that remaps users may add the account it needs: its /etc is a copy. Where the test is
// not root's it is skipped.
func StartDaemon(t testing.TB, config string) *Daemon {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("an engine of its own needs root")
	}
	hosttest.Turn(t)
	dir, err := os.MkdirTemp("", "engine-") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	if config == "" {
		config = "{}"
	}
	d := &Daemon{t: t, dir: dir, Socket: filepath.Join(dir, "sock")}
	if err := os.WriteFile(filepath.Join(dir, "daemon.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(config, "userns-remap") {
		d.remapped(t)
	}
	t.Cleanup(func() {
		d.Stop()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	d.Start()
	return d
}

// remapped lets other users than root pass through the engine's directory, and makes room for what it changes of /etc.
func (d *Daemon) remapped(t testing.TB) {
	t.Helper()
	if err := errors.Join(os.Chmod(d.dir, 0o711), os.Mkdir(filepath.Join(d.dir, "etc"), 0o755), os.Mkdir(filepath.Join(d.dir, "work"), 0o755)); err != nil {
		t.Fatal(err)
	}
}

// Start starts the engine again after Stop, and waits until it answers.
func (d *Daemon) Start() {
	d.t.Helper()
	const script = `ip link set lo up; if [ -d "$1/etc" ]; then mount -t overlay -o "lowerdir=/etc,upperdir=$1/etc,workdir=$1/work" overlay /etc || exit; fi; ` +
		`exec dockerd --config-file "$1/daemon.json" -H "unix://$1/sock" --data-root "$1/data" --exec-root "$1/exec" ` +
		`--pidfile "$1/pid" --containerd-namespace "${1##*/}" --containerd-plugins-namespace "${1##*/}-plugins"`
	d.cmd = exec.Command("unshare", "-n", "-m", "sh", "-c", script, "sh", d.dir)
	log, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); exec.Command("docker", "-H", "unix://"+d.Socket, "info").Run() != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(filepath.Join(d.dir, "log"))
			d.t.Fatalf("the engine does not start:\n%s", text)
		}
	}
}

// Enter begins a command that runs where the engine does: in its network, and with its mounts if mounts is set.
func (d *Daemon) Enter(mounts bool) []string {
	enter := []string{"nsenter", "--target", strconv.Itoa(d.cmd.Process.Pid), "--net"}
	if mounts {
		enter = append(enter, "--mount")
	}
	return enter
}

// Stop stops the engine; containers go on running only if its configuration says so.
func (d *Daemon) Stop() {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait()
	d.cmd = nil
}

// Runsc is the path of gVisor's runtime that set-up has built. Where it has not the test is skipped, or fails if
// SANDBOXER_REQUIRE_ENGINE is 1.
func Runsc(t testing.TB) string {
	t.Helper()
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := strings.TrimSpace(string(module))
	version, err := exec.Command("go", "list", "-C", filepath.Join(root, "tools", "runsc"), "-m", "-f", "{{.Version}}", "gvisor.dev/gvisor").Output()
	if err != nil {
		t.Fatal(err)
	}
	runsc := filepath.Join(root, ".cache", "runsc-"+strings.TrimSpace(string(version)))
	switch _, err := os.Stat(runsc); {
	case err == nil:
	case os.Getenv("SANDBOXER_REQUIRE_ENGINE") == "1":
		t.Fatalf("%v: run scripts/setup test", err)
	default:
		t.Skipf("%v: run scripts/setup test", err)
	}
	return runsc
}
