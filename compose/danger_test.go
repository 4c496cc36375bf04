//go:build linux

package compose_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/internal/repotest"
)

// A danger is a compose file that harms the host, a neighbour or the caller
// when plain compose runs it.
type danger struct {
	// files are the repository. In their text IMAGE is an image of the test's
	// program, and CANARY a directory of the host that holds the file secret.
	files map[string]string
	// prepare makes what files cannot express. Optional.
	prepare func(t *testing.T, x *exposed)
	// harm says what plain compose let happen; empty is nothing.
	harm func(t *testing.T, x *exposed) string
	// rule refuses the file. Empty: it runs, and nothing happens; prove looks. Optional.
	rule  string
	prove func(t *testing.T, x *exposed, box *sandboxer.Sandbox)
}

// An exposed host has an engine of its own, and something to lose.
type exposed struct {
	*rig
	machine *machine
	canary  string // directory of the host
	repo    string
	image   string
	scratch string   // what prepare and harm tell each other
	names   []string // what stands for what in the text of files, in pairs
}

const canarySecret = "canary-of-the-host"

// dangers are those of the corpus that name what they do, adapted to an image
// of ours and a canary.
var dangers = map[string]danger{
	"bind of the root": {
		files: oneService(`volumes: ["/:/host:ro"], command: [show, "/hostCANARY/secret", "0"]`), harm: reads, rule: "BIND-OUTSIDE",
	},
	"bind of the engine's socket": {
		files: oneService(`volumes: ["SOCKET:/s/docker.sock"], command: [engine, /s/docker.sock]`), harm: says("the engine answers 200"), rule: "BIND-OUTSIDE",
	},
	"bind by a variable": {
		files: oneService(`volumes: ["${DATA:-CANARY}:/d"], command: [write, /d/planted, x]`), harm: plants, rule: "BIND-OUTSIDE",
	},
	"privileged": {
		// A machine that lacks capabilities itself cannot hand them on; the engine tries.
		files: oneService(`privileged: true, command: [mount]`), harm: says("mounted a file system", "unable to apply caps"), rule: "PRIVILEGED",
	},
	"cap SYS_ADMIN": {files: oneService(`cap_add: [SYS_ADMIN], security_opt: ["apparmor:unconfined"], command: [mount]`), harm: says("mounted a file system"), rule: "CAP-ADD"},
	"pid host": {
		prepare: func(t *testing.T, x *exposed) {
			victim := exec.Command("sleep", "60", "0", "0.0", "0.00")
			if err := victim.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = victim.Process.Kill(); _ = victim.Wait() })
			x.scratch = fmt.Sprint(victim.Process.Pid)
		},
		files: oneService(`pid: host, command: [show, "/proc/SCRATCH/cmdline", "0"]`), harm: says("sleep"), rule: "PID-MODE",
	},
	"network host": {
		files: oneService(`network_mode: host, command: [probe, "tcp:127.0.0.1:7777"]`), harm: says("7777 open"), rule: "NETWORK-MODE",
	},
	"volume that is an overlay": {
		prepare: emptyDirectory,
		files:   oneServiceWith(`volumes: ["disk:/x"], command: [show, /x/secret, "0"]`, `volumes: {disk: {driver_opts: {type: overlay, device: overlay, o: "lowerdir=CANARY:SCRATCH"}}}`), harm: reads, rule: "VOL-DRIVER-OPTS",
	},
	"volume that is a bind": {
		files: oneServiceWith(`volumes: ["disk:/x"], command: [show, /x/secret, "0"]`, `volumes: {disk: {driver_opts: {type: none, device: CANARY, o: bind}}}`), harm: reads, rule: "VOL-DRIVER-OPTS",
	},
	"volume that is a disk": {
		prepare: blockDevice,
		files:   oneServiceWith(`volumes: ["disk:/x"], command: [show, /x/secret, "0"]`, `volumes: {disk: {driver_opts: {type: ext4, device: SCRATCH}}}`), harm: reads, rule: "VOL-DRIVER-OPTS",
	},
	"provider": {
		files: map[string]string{"compose.yaml": "services: {p: {provider: {type: ./evil.sh}}, a: {image: IMAGE, command: [exit, \"0\", 0s], depends_on: [p]}}", "evil.sh": "#!/bin/sh\ntouch CANARY/planted\n"},
		prepare: func(t *testing.T, x *exposed) {
			if err := os.Chmod(filepath.Join(x.repo, "evil.sh"), 0o755); err != nil {
				t.Fatal(err)
			}
		},
		harm: plants, rule: "PROVIDER",
	},
	"privileged hook": {
		files: oneService(`command: [exit, "0", 5s], post_start: [{command: [/app, mount], privileged: true}]`),
		harm: func(t *testing.T, x *exposed) string {
			// A hook that may not mount fails, and compose with it; see above.
			if out, code := x.compose(t, "up"); code == 0 || strings.Contains(out, "unable to apply caps") {
				return "a hook was given every capability"
			}
			return ""
		},
		rule: "HOOK-PRIVILEGED",
	},
	"subnet of the host": {
		prepare: func(t *testing.T, x *exposed) {
			x.inside(t, "ip", "link", "add", "office", "type", "veth", "peer", "name", "office-far")
			x.inside(t, "ip", "link", "set", "office", "up")
			x.inside(t, "ip", "route", "add", "172.30.0.0/16", "dev", "office")
		},
		files: oneServiceWith(`command: [serve, "80", x], networks: [n]`, `networks: {n: {ipam: {config: [{subnet: 172.30.5.0/24}]}}}`),
		harm: func(t *testing.T, x *exposed) string {
			x.compose(t, "up", "--detach")
			return x.rerouted(t)
		},
		prove: func(t *testing.T, x *exposed, _ *sandboxer.Sandbox) {
			if harm := x.rerouted(t); harm != "" {
				t.Error(harm)
			}
		},
	},
	"FIFO as env file": {
		prepare: func(t *testing.T, x *exposed) {
			if err := syscall.Mkfifo(filepath.Join(x.repo, "f.env"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
		files: oneService(`env_file: f.env`), harm: hangs, rule: "ENVFILE",
	},
	"bomb in .env": {
		files: map[string]string{"compose.yaml": "services: {a: {image: IMAGE}}", ".env": doubling(40)}, harm: hangs, rule: "ENVFILE-BOMB",
	},
	"many ports": {files: oneService(`ports: ["1-65535:1-65535", "1-65535:1-65535/udp", "127.0.0.1:1-65535:1-65535", "127.0.0.2:1-65535:1-65535"]`), harm: hangs, rule: "PORT-RANGE"},
	"YAML nested deep": {
		files: map[string]string{"compose.yaml": "x-a: " + strings.Repeat("[", 9900) + strings.Repeat("]", 9900) + "\nservices: {a: {image: IMAGE}}\n"}, harm: hangs, rule: "YAML-BOMB",
	},
	"YAML aliases": {files: map[string]string{"compose.yaml": aliases(6)}, harm: hangs, rule: "YAML-BOMB"},
	"env file outside": {
		files: oneService(`env_file: CANARY/.env`), harm: tells, rule: "ENVFILE",
	},
	".env that is a link": {
		prepare: linkTo(".env", ".env"),
		files:   oneService(`environment: {SECRET: "${SECRET}"}`), harm: tells, rule: "ENVFILE",
	},
	"compose file that is a link": {
		prepare: linkTo("compose.yaml", "more.yaml"), harm: tells, rule: "YAML-FILE",
	},
	"include outside": {
		files: map[string]string{"compose.yaml": "include: [CANARY/more.yaml]"}, harm: tells, rule: "INCLUDE",
	},
	"include through a link": {
		prepare: linkTo("link.yaml", "more.yaml"),
		files:   map[string]string{"compose.yaml": "include: [link.yaml]"}, harm: tells, rule: "INCLUDE",
	},
	"include with variables from outside": {
		files: map[string]string{"compose.yaml": "include: [{path: sub.yaml, env_file: CANARY/.env}]", "sub.yaml": `services: {a: {image: IMAGE, environment: {SECRET: "${SECRET}"}}}`}, harm: tells, rule: "INCLUDE",
	},
	"include that belongs elsewhere": { // whose .env is then read
		files: map[string]string{"compose.yaml": "include: [{path: sub.yaml, project_directory: CANARY}]", "sub.yaml": `services: {a: {image: IMAGE, environment: {SECRET: "${SECRET}"}}}`}, harm: tells, rule: "INCLUDE",
	},
	"extends outside": {files: oneService(`extends: {file: CANARY/more.yaml, service: more}`), harm: tells, rule: "EXTENDS"},
	"extends through a link": {
		prepare: linkTo("link.yaml", "more.yaml"),
		files:   oneService(`extends: {file: link.yaml, service: more}`), harm: tells, rule: "EXTENDS",
	},
	"Dockerfile outside": {
		files: oneService(`build: {context: ., dockerfile: CANARY/secret}`), harm: quotes, rule: "BUILD-DOCKERFILE",
	},
	"Dockerfile through a link": {
		prepare: linkTo("link", "secret"),
		files:   oneService(`build: {context: ., dockerfile: link}`), harm: quotes, rule: "BUILD-SYMLINK",
	},
	"build that fetches": {
		files: map[string]string{"compose.yaml": "services: {a: {build: .}}", "Dockerfile": "FROM scratch\nADD http://169.254.169.254/token /x\n"}, harm: fetches, rule: "BUILD-FETCH",
	},
	"override beside the file": {
		files: map[string]string{
			"compose.yaml":          `services: {a: {image: IMAGE, command: [exit, "0", 0s]}}`,
			"compose.override.yaml": `services: {a: {volumes: ["CANARY:/d"], command: [write, /d/planted, x]}}`,
		},
		harm: plants, prove: func(*testing.T, *exposed, *sandboxer.Sandbox) {},
	},
	"log sent from the host": {
		files: oneService(`network_mode: none, logging: {driver: syslog, options: {syslog-address: "udp://` + machineAddress + `:7777"}}, command: [show, /proc/self/cmdline, "0"]`),
		harm: func(t *testing.T, x *exposed) string {
			x.compose(t, "up")
			for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
				if x.machine.host.heard("/proc/self/cmdline") {
					return "a container without a network was heard"
				}
			}
			return ""
		},
		rule: "LOGGING",
	},
	"bridge of the host": {
		prepare: func(t *testing.T, x *exposed) {
			x.inside(t, "ip", "link", "add", "lab", "type", "bridge")
			x.inside(t, "ip", "address", "add", "172.29.7.1/24", "dev", "lab")
		},
		files: oneServiceWith(`command: [exit, "0", 0s], networks: [n]`, `networks: {n: {driver_opts: {com.docker.network.bridge.name: lab}}}`),
		harm: func(t *testing.T, x *exposed) string {
			x.compose(t, "up")
			addresses := x.inside(t, "ip", "-o", "address", "show", "dev", "lab")
			x.inside(t, "ip", "link", "delete", "lab")
			if !strings.Contains(addresses, "172.29.7.1/24") {
				return "the host's bridge has another address: " + addresses
			}
			return ""
		},
		rule: "NET-DRIVER-OPTS",
	},
	"project of a neighbour": {
		prepare: func(t *testing.T, x *exposed) {
			x.docker(t, "run", "--detach", "--name", "shop-db-1", "--label", "com.docker.compose.project=shop", "--label", "com.docker.compose.service=db",
				"--label", "com.docker.compose.oneoff=False", "--label", "com.docker.compose.config-hash=x", "--label", "com.docker.compose.container-number=1", x.image, "serve", "80", "x")
			t.Cleanup(func() { _ = exec.Command("docker", "rm", "--force", "shop-db-1").Run() })
		},
		files: map[string]string{"compose.yaml": `{name: shop, services: {a: {image: IMAGE, command: [exit, "0", 0s]}}}`},
		harm: func(t *testing.T, x *exposed) string {
			cmd := exec.Command("docker", "compose", "up", "--detach", "--remove-orphans")
			cmd.Dir = x.repo
			out, err := cmd.CombinedOutput()
			t.Logf("%v %s", err, out)
			defer func() { x.docker(t, "compose", "--project-name", "shop", "down", "--timeout", "0") }()
			return x.shopless(t)
		},
		prove: func(t *testing.T, x *exposed, _ *sandboxer.Sandbox) {
			if harm := x.shopless(t); harm != "" {
				t.Error(harm)
			}
		},
	},
	"directory swapped for a link": {
		files: map[string]string{"compose.yaml": `
services:
  a: {image: IMAGE, volumes: ["./:/ws"], command: [link, CANARY, /ws/conf]}
  b: {image: IMAGE, volumes: ["./conf:/conf"], command: [show, /conf/secret, "0"], depends_on: {a: {condition: service_completed_successfully}}}
`, "conf/secret": "of the repository"},
		harm: reads, prove: logLacks("b", canarySecret),
	},
	"directory swapped before a restart": {
		files: map[string]string{
			"compose.yaml": `services: {a: {image: IMAGE, restart: always, volumes: ["./:/ws", "./conf:/conf"], command: [swap, CANARY, /ws/conf, /conf/secret, "80"]}}`,
			"conf/secret":  "of the repository",
		},
		harm: func(t *testing.T, x *exposed) string {
			x.compose(t, "up", "--detach")
			for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
				if strings.Contains(x.evidence(t, "danger")["a"], fmt.Sprintf("has %q", canarySecret)) && x.planted() != "" {
					return "a file of the host was read, and another written"
				}
			}
			return ""
		},
		prove: func(t *testing.T, x *exposed, box *sandboxer.Sandbox) {
			x.staysInside(t, box, 1)
			x.docker(t, "restart", "--time", "0", "sbx-"+box.ID+"-a-1") // where all that was planted is there from the start
			x.staysInside(t, box, 2)
			again, err := x.Recreate(t.Context(), box.ID)
			if err != nil {
				t.Fatalf("recreate: %v\n%s", err, logOf(err))
			}
			x.staysInside(t, again, 1)
		},
	},
	".env that steers compose": {
		files: map[string]string{
			"compose.yaml": `services: {a: {image: IMAGE, command: [exit, "0", 0s]}}`, "evil.yaml": `services: {a: {image: IMAGE, volumes: ["CANARY:/d"], command: [write, /d/planted, x]}}`,
			".env": "COMPOSE_FILE=evil.yaml\n",
		},
		harm: plants, prove: func(*testing.T, *exposed, *sandboxer.Sandbox) {},
	},
	"image name of a neighbour": {
		prepare: func(t *testing.T, x *exposed) {
			x.docker(t, "tag", x.image, "neighbour/app:1")
			x.docker(t, "tag", x.image, "neighbour/app:2")
			x.scratch = x.docker(t, "image", "inspect", "--format", "{{.Id}}", "neighbour/app:1")
		},
		files: map[string]string{"compose.yaml": `services: {a: {image: "neighbour/app:1", build: {context: ., tags: ["neighbour/app:2"]}, command: [serve, "80", x]}}`, "Dockerfile": "FROM scratch\nCOPY app /app\nENTRYPOINT [\"/app\"]\n"},
		harm: func(t *testing.T, x *exposed) string {
			if x.compose(t, "build"); x.docker(t, "image", "inspect", "--format", "{{.Id}}", "neighbour/app:2") == x.scratch {
				return ""
			}
			return x.retagged(t)
		},
		prove: func(t *testing.T, x *exposed, _ *sandboxer.Sandbox) {
			if harm := x.retagged(t); harm != "" {
				t.Error(harm)
			}
		},
	},
	".git in a build context": {
		prepare: maliciousGit,
		files:   map[string]string{"compose.yaml": `services: {a: {build: ., command: [exit, "0", 0s]}}`, "Dockerfile": "FROM scratch\nCOPY app /app\nENTRYPOINT [\"/app\"]\n"},
		harm: func(t *testing.T, x *exposed) string {
			// What buildx runs in a context, on hosts that have it, to say where an image is from.
			_ = exec.Command("git", "-C", x.repo, "show", "--format=%H", "HEAD", "--quiet", "--").Run()
			return x.planted()
		},
		prove: func(t *testing.T, _ *exposed, box *sandboxer.Sandbox) {
			src := box.Reachability.Workdir
			if _, err := os.Stat(filepath.Join(src, "Dockerfile")); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(filepath.Join(src, ".git")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf(".git was copied to the host: %v", err)
			}
		},
	},
}

// TestDangerIsRealAndGone runs each file twice on an engine of the test's own:
// as plain compose does, to see the harm, and through the library, to see none.
func TestDangerIsRealAndGone(t *testing.T) {
	m := bareMachine(t)
	image := importedImage(t)
	for name, d := range dangers {
		t.Run(name, func(t *testing.T) { expose(t, m, image).realAndGone(t, d) })
	}
	t.Run("services of one file", func(t *testing.T) { dangersOfOneFile(t, m, image) })
	t.Run("hooks that hang", func(t *testing.T) { hooksThatHang(t, m, image) })
	t.Run("builds that dial out", func(t *testing.T) { buildsThatDialOut(t, m, image) })
}

func (x *exposed) realAndGone(t *testing.T, d danger) {
	t.Helper()
	x.lay(t, d)
	if d.harm(t, x) == "" {
		t.Error("plain compose did no harm: the file is no test of the gate")
	}
	x.down(t)
	_ = os.Remove(filepath.Join(x.canary, "planted"))
	x.lay(t, d) // what was swapped is as it was
	x.throughTheLibrary(t, d)
	if harm := x.planted(); harm != "" {
		t.Error(harm)
	}
}

// expose gives a test a host that it has for itself on a machine.
func expose(t *testing.T, m *machine, image string, more ...sandboxer.Profile) *exposed {
	t.Helper()
	return &exposed{
		machine: m, image: image, canary: t.TempDir(),
		rig: newRig(t, compose.HostConfig{Name: "here", Address: "local:", EngineSocket: m.engine.Socket, Root: filepath.Join(t.TempDir(), "host")}, more...),
	}
}

// down removes what plain compose left. A busy engine of version 20.10 may take
// a container that is gone for one on its network still; the network ends with
// the engine.
func (x *exposed) down(t *testing.T) {
	t.Helper()
	out, err := exec.Command("docker", "compose", "--project-name", "danger", "down", "--volumes", "--timeout", "0", "--remove-orphans").CombinedOutput()
	if err != nil && !strings.Contains(string(out), "has active endpoints") {
		t.Fatalf("%v: %s", err, out)
	}
	if left := x.docker(t, "ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project=danger"); left != "" {
		t.Fatalf("left by plain compose: %s", left)
	}
}

// throughTheLibrary expects a refusal in no time, or a sandbox that does no harm.
func (x *exposed) throughTheLibrary(t *testing.T, d danger) {
	t.Helper()
	if d.rule != "" {
		if violations := x.refused(t); !slices.ContainsFunc(violations, func(v sandboxer.Violation) bool { return v.Rule == d.rule }) {
			t.Errorf("not refused by %s: %v", d.rule, violations)
		}
		return
	}
	box, err := x.Create(t.Context(), request(x.repo))
	if err != nil {
		t.Fatalf("create: %v\n%s", err, logOf(err))
	}
	d.prove(t, x, box)
	x.destroy(t, box.ID)
}

// refused is why the repository is refused, in no time. Nothing of the canary
// is in what is said about it.
func (x *exposed) refused(t *testing.T) []sandboxer.Violation {
	t.Helper()
	begin := time.Now()
	_, err := x.Create(t.Context(), request(x.repo))
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("refused after %v", took)
	}
	var refused *sandboxer.AdmissionError
	if !errors.As(err, &refused) {
		t.Fatalf("not refused: %v", err)
	}
	if said := strings.ToLower(fmt.Sprint(err, refused.Admission)); strings.Contains(said, canarySecret) {
		t.Errorf("the refusal tells a secret of the host: %s", said)
	}
	return refused.Admission.Violations
}

// lay writes the repository anew, with a canary beside it.
func (x *exposed) lay(t *testing.T, d danger) {
	t.Helper()
	x.repo, x.scratch, x.names = t.TempDir(), "", []string{"IMAGE", x.image, "CANARY", x.canary, "SOCKET", x.machine.engine.Socket}
	repotest.Write(t, filepath.Join(x.repo, "app"), string(repotest.App(t)), 0o755)
	repotest.Write(t, filepath.Join(x.canary, "secret"), canarySecret, 0o600)
	for name := range d.files {
		repotest.Write(t, filepath.Join(x.repo, name), "", 0o644)
	}
	for name, text := range map[string]string{
		".env": "SECRET=" + canarySecret + "\n", "more.yaml": "services: {more: {image: IMAGE, environment: {SECRET: " + canarySecret + "}}}\n",
	} {
		repotest.Write(t, filepath.Join(x.canary, name), text, 0o600)
	}
	if d.prepare != nil {
		d.prepare(t, x)
	}
	names := strings.NewReplacer(append(x.names, "SCRATCH", x.scratch)...)
	for name, text := range d.files {
		if err := os.WriteFile(filepath.Join(x.repo, name), []byte(names.Replace(text)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// compose runs plain compose in the repository, as somebody would who has
// cloned it. -1 is the code of what did not end.
func (x *exposed) compose(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	return x.composeFor(t, 10*time.Minute, args...)
}

func (x *exposed) composeFor(t *testing.T, patience time.Duration, args ...string) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", `ulimit -v 4000000; exec docker compose --project-name danger "$@"`, "sh"}, args...)...)
	cmd.Dir = x.repo
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the plugin is a child of the client, and outlives it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	err := cmd.Run()
	if ctx.Err() != nil {
		return text.String(), -1
	}
	if err != nil {
		t.Logf("compose %s: %v: %.600s", args, err, text.String())
	}
	return text.String(), cmd.ProcessState.ExitCode()
}

func (x *exposed) docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// inside runs a command in the network of the engine.
func (x *exposed) inside(t *testing.T, command ...string) string {
	t.Helper()
	enter := append(x.machine.engine.Enter(false), command...)
	out, err := exec.Command(enter[0], enter[1:]...).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "File exists") { // it is laid twice
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

func (x *exposed) planted() string {
	if _, err := os.Stat(filepath.Join(x.canary, "planted")); err == nil {
		return "a file was planted on the host"
	}
	return ""
}

func (x *exposed) rerouted(t *testing.T) string {
	if route := x.inside(t, "ip", "route", "get", "172.30.5.9"); !strings.Contains(route, "office") {
		return "the host's way to 172.30.5.9 leads elsewhere: " + route
	}
	return ""
}

func (x *exposed) retagged(t *testing.T) string {
	for _, name := range []string{"neighbour/app:1", "neighbour/app:2"} {
		if now := x.docker(t, "image", "inspect", "--format", "{{.Id}}", name); now != x.scratch {
			return "the neighbour's image " + name + " is another one now"
		}
	}
	return ""
}

// staysInside waits until the service a has come so often to see what was put
// in the place of its mount, and expects that it saw what it was given.
func (x *exposed) staysInside(t *testing.T, box *sandboxer.Sandbox, times int) {
	t.Helper()
	conf := filepath.Join(box.Reachability.Workdir, "conf")
	if to, err := os.Readlink(conf); to != x.canary {
		t.Errorf("no link was planted at %s, which leads to %q: %v", conf, to, err)
	}
	var saw string
	for deadline := time.Now().Add(3 * time.Minute); strings.Count(saw, "writing beside it") < times; time.Sleep(50 * time.Millisecond) {
		if saw = x.evidence(t, "sbx-"+box.ID)["a"]; time.Now().After(deadline) {
			t.Fatalf("the service has not looked %d times:\n%s", times, saw)
		}
	}
	if strings.Count(saw, `has "of the repository", <nil>`) != times || strings.Count(saw, "writing beside it: <nil>") != times {
		t.Errorf("generation %d, not as it was given:\n%s", box.Generation, saw)
	}
	if strings.Contains(saw, `"Name":"always"`) {
		t.Error("the engine restarts it always, also when nobody knows the sandbox any more")
	}
	if harm := x.planted(); harm != "" {
		t.Error(harm)
	}
}

func (x *exposed) shopless(t *testing.T) string {
	if x.docker(t, "ps", "--quiet", "--filter", "name=shop-db-1") == "" {
		return "the neighbour's container is gone"
	}
	return ""
}

// says runs the file and looks for one of the texts in what the services and the engine write.
func says(texts ...string) func(*testing.T, *exposed) string {
	return func(t *testing.T, x *exposed) string {
		out, _ := x.compose(t, "up")
		for _, text := range texts {
			if strings.Contains(out, text) {
				return "it says " + text
			}
		}
		t.Logf("it says: %s", out)
		return ""
	}
}

func reads(t *testing.T, x *exposed) string { return says(canarySecret)(t, x) }

// tells looks for the canary in what plain compose would run: what a client
// has read for it.
func tells(t *testing.T, x *exposed) string {
	if out, _ := x.compose(t, "config"); strings.Contains(out, canarySecret) {
		return "a file of the client is part of the project"
	}
	return ""
}

// quotes looks for the canary in what a builder says of a Dockerfile.
func quotes(t *testing.T, x *exposed) string {
	if out, _ := x.compose(t, "build"); strings.Contains(strings.ToLower(out), canarySecret) {
		return "the builder quotes a file of the host"
	}
	return ""
}

// fetches expects the builder to quote the witness, which speaks no HTTP.
func fetches(t *testing.T, x *exposed) string {
	out, _ := x.compose(t, "build")
	if strings.Contains(out, `malformed HTTP response "heard"`) {
		return "the builder asks the metadata service"
	}
	t.Logf("it says: %s", out)
	return ""
}

func plants(t *testing.T, x *exposed) string {
	x.compose(t, "up")
	return x.planted()
}

// hangs expects compose to be at it for two seconds, or to have used up 4 GB.
func hangs(t *testing.T, x *exposed) string {
	if out, code := x.composeFor(t, 2*time.Second, "config", "--quiet"); code == -1 || strings.Contains(out, "out of memory") || strings.Contains(out, "cannot allocate") {
		return "compose hangs or eats the memory"
	}
	return ""
}

func logLacks(service, text string) func(*testing.T, *exposed, *sandboxer.Sandbox) {
	return func(t *testing.T, x *exposed, box *sandboxer.Sandbox) {
		log, err := x.Logs(t.Context(), box.ID, sandboxer.LogOptions{Service: service})
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		var out bytes.Buffer
		if _, err := out.ReadFrom(log); err != nil || strings.Contains(out.String(), text) || !strings.Contains(out.String(), "of the repository") {
			t.Errorf("service %s says, %v:\n%s", service, err, out.String())
		}
	}
}

func oneService(attributes string) map[string]string { return oneServiceWith(attributes, "") }

func oneServiceWith(attributes, more string) map[string]string {
	return map[string]string{"compose.yaml": "services: {a: {image: IMAGE, " + attributes + "}}\n" + more + "\n"}
}

// linkTo puts a link to a file beside the canary into the repository.
func linkTo(name, target string) func(*testing.T, *exposed) {
	return func(t *testing.T, x *exposed) {
		if err := os.Symlink(filepath.Join(x.canary, target), filepath.Join(x.repo, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func emptyDirectory(t *testing.T, x *exposed) { x.scratch = t.TempDir() }

// blockDevice is a disk of the host with the canary on it.
func blockDevice(t *testing.T, x *exposed) {
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-d", x.canary, disk).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.Command("losetup", "--find", "--show", disk).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	x.scratch = device
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// maliciousGit makes the tree a repository that lacks its only commit, and
// says how to fetch it.
func maliciousGit(t *testing.T, x *exposed) {
	dir := filepath.Join(x.repo, ".git")
	const commit = "0123456789012345678901234567890123456789"
	for name, text := range map[string]string{
		"HEAD": "ref: refs/heads/main\n", "refs/heads/main": commit + "\n", "objects/info/packs": "\n",
		"config": "[core]\n\trepositoryformatversion = 1\n\tbare = false\n\tsshCommand = touch " + x.canary + "/planted #\n[extensions]\n\tpartialClone = origin\n" +
			"[remote \"origin\"]\n\turl = ssh://nowhere/x\n\tpromisor = true\n\tpartialclonefilter = blob:none\n",
	} {
		repotest.Write(t, filepath.Join(dir, name), text, 0o644)
	}
}

// aliases is a list of ten lists of ten lists, so many levels deep.
func aliases(levels int) string {
	var b strings.Builder
	b.WriteString("x-0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range levels {
		fmt.Fprintf(&b, "x-%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", "))
	}
	fmt.Fprintf(&b, "services: {a: {image: IMAGE, command: *a%d}}\n", levels)
	return b.String()
}

// doubling is a variable that doubles with every line.
func doubling(lines int) string {
	var b strings.Builder
	b.WriteString("A0=" + strings.Repeat("x", 64) + "\n")
	for i := range lines {
		fmt.Fprintf(&b, "A%d=$A%d$A%d\n", i+1, i, i)
	}
	return b.String()
}
