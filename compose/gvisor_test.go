//go:build linux

package compose_test

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/compose/internal/engine/enginetest"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
)

// gvisorRig works on an engine of the test's own, which knows gVisor's runtime
// under a name of the host's choice.
func gvisorRig(t *testing.T) *rig {
	t.Helper()
	hosttest.Require(t)
	runsc := enginetest.Runsc(t)
	engine := enginetest.StartDaemon(t, fmt.Sprintf(`{"runtimes": {"sentry": {"path": %q}}}`, runsc))
	t.Setenv("DOCKER_HOST", "unix://"+engine.Socket) // for what the test asks itself
	return newRig(t, compose.HostConfig{
		Name: "here", Address: "local:", Root: filepath.Join(t.TempDir(), "host"), EngineSocket: engine.Socket, GVisorRuntime: "sentry",
	})
}

const gvisorServices = `
services:
  web:
    build: .
    container_name: the-web
    command: [serve, "8080", hello]
    ports: ["8080:8080"]
    networks: {default: {}, back: {}}
    read_only: true
    tmpfs: [/tmp]
    volumes: ["state:/state", "./content:/content:ro"]
    secrets: [token]
    healthcheck: {test: [CMD, /app, health, "8080"], interval: 1s}
    depends_on: {db: {condition: service_healthy}, seed: {condition: service_completed_successfully}}
  db:
    image: {image}
    command: [serve, "9090", rows]
    networks: {back: {aliases: [database]}}
    healthcheck: {test: [CMD, /app, health, "9090"], interval: 1s}
    restart: always
  apart: {image: "{image}", command: [serve, "7070", apart]}
  seed: {image: "{image}", command: [write, /state/seed, planted], volumes: ["state:/state"]}
volumes: {state: {}}
networks: {back: {}}
secrets: {token: {file: ./token.txt}}
`

// TestGVisor runs a real sandbox of several services under runsc.
func TestGVisor(t *testing.T) {
	r := gvisorRig(t)
	status, err := r.ext.ProbeHost(t.Context(), "here")
	if err != nil || !slices.Equal(status.Isolation, []sandboxer.Isolation{sandboxer.IsolationContainer, sandboxer.IsolationGVisor}) {
		t.Fatalf("the host offers %v (%s), %v", status.Isolation, status.Facts["runtimes"], err)
	}
	image := importedImage(t)
	req := request(repotest.New(t, map[string]string{"compose.yaml": strings.ReplaceAll(gvisorServices, "{image}", image), "content/page.txt": "page", "token.txt": "s3cret"}))
	req.Profile = "profile.gvisor"
	box := r.create(t, req)
	t.Run("every container runs on another kernel", func(t *testing.T) { runsUnderGVisor(t, r, box) })
	t.Run("services find each other", func(t *testing.T) { findsServices(t, r, box) })
	t.Run("nothing outside is reached", func(t *testing.T) { reachesNothingOutside(t, r, box) })
	t.Run("mounts", func(t *testing.T) { seesMounts(t, r, box) })
	t.Run("logs", func(t *testing.T) {
		logs, err := r.Logs(t.Context(), box.ID, sandboxer.LogOptions{Service: "db"})
		if err != nil {
			t.Fatal(err)
		}
		if text := readAll(t, logs); text != "serving on 9090\n" {
			t.Errorf("got %q", text)
		}
	})
	t.Run("a container that comes back has its name still", func(t *testing.T) {
		dockerDo(t, "restart", "-t", "1", "sbx-"+box.ID+"-db-1")
		findsServices(t, r, box)
	})
	t.Run("recreate", func(t *testing.T) {
		again, err := r.Recreate(t.Context(), box.ID)
		if err != nil {
			t.Fatalf("%v\n%s", err, logOf(err))
		}
		t.Cleanup(func() { r.destroy(t, again.ID) })
		runsUnderGVisor(t, r, again)
		findsServices(t, r, again)
	})
	t.Run("egress allowed", func(t *testing.T) { asksResolversOfItsOwn(t, r, image) })
	t.Run("egress through the proxy", func(t *testing.T) { goesThroughTheProxy(t, r, image) })
	t.Run("container isolation on the same engine", func(t *testing.T) { runsUnderRunc(t, r, image) })
}

func runsUnderGVisor(t *testing.T, r *rig, box *sandboxer.Sandbox) {
	t.Helper()
	if got := runtimesOf(t, box.ID); len(got) != 4 || slices.ContainsFunc(got, func(name string) bool { return name != "sentry" }) {
		t.Errorf("containers run under %q", got)
	}
	host, err := os.ReadFile("/proc/version")
	if err != nil {
		t.Fatal(err)
	}
	if inside := get(t, r.Client, box.ID, "web", 8080, "/file?path=/proc/version"); !strings.HasPrefix(inside, "Linux version 4.4.0") || inside == string(host) {
		t.Errorf("inside, the kernel is %q; gVisor calls itself Linux 4.4.0", inside)
	}
	wantControl(t, box, "isolation", sandboxer.Enforced, "sentry")
	wantControl(t, box, "isolation.builds", sandboxer.Advisory, "kernel of the host")
}

// runtimesOf lists what the engine says the containers of the file run under.
func runtimesOf(t *testing.T, id string) []string {
	t.Helper()
	containers := strings.Fields(dockerDo(t, "ps", "-aq", "--filter", "label=dev.sandboxer.id="+id, "--filter", "label=com.docker.compose.service"))
	return strings.Fields(dockerDo(t, append([]string{"inspect", "--format", "{{.HostConfig.Runtime}}"}, containers...)...))
}

func dockerDo(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v: %s", args, err, out)
	}
	return string(out)
}

func wantControl(t *testing.T, box *sandboxer.Sandbox, name string, level sandboxer.ControlLevel, says string) {
	t.Helper()
	i := slices.IndexFunc(box.Controls, func(c sandboxer.Control) bool { return c.Name == name })
	if i < 0 || box.Controls[i].Level != level || !strings.Contains(box.Controls[i].Detail, says) {
		t.Errorf("controls %+v, want %s %s that says %q", box.Controls, name, level, says)
	}
}

// probeFrom tries targets from inside the service web.
func probeFrom(t *testing.T, r *rig, id string, targets ...string) []string {
	t.Helper()
	text := get(t, r.Client, id, "web", 8080, "/probe?"+url.Values{"target": targets}.Encode())
	return strings.Split(strings.TrimSpace(text), "\n")
}

func findsServices(t *testing.T, r *rig, box *sandboxer.Sandbox) {
	t.Helper()
	for _, line := range probeFrom(t, r, box.ID, "tcp:db:9090", "tcp:database:9090", "tcp:apart:7070", "tcp:web:8080", "tcp:the-web:8080", "dns:seed") {
		if !strings.HasSuffix(line, " open") {
			t.Errorf("from inside: %s", line)
		}
	}
}

func reachesNothingOutside(t *testing.T, r *rig, box *sandboxer.Sandbox) {
	targets := []string{"tcp:192.0.2.1:80", "tcp:1.1.1.1:53", "dns:example.com", "dns:host.docker.internal", "tcp:172.17.0.1:22", "tcp:169.254.169.254:80"}
	for _, line := range probeFrom(t, r, box.ID, append(targets, "tcp:"+gatewayOf(t, box.ID)+":22")...) {
		if !strings.Contains(line, " closed: ") {
			t.Errorf("from inside: %s", line)
		}
	}
	wantControl(t, box, "network.egress", sandboxer.Enforced, "internal")
}

func seesMounts(t *testing.T, r *rig, box *sandboxer.Sandbox) {
	for path, want := range map[string]string{"/content/page.txt": "page", "/state/seed": "planted", "/run/secrets/token": "s3cret"} {
		if got := get(t, r.Client, box.ID, "web", 8080, "/file?path="+path); got != want {
			t.Errorf("%s gives %q, want %q", path, got, want)
		}
	}
	write := func(path string) error {
		return exec.Command("docker", "exec", "sbx-"+box.ID+"-web-1", "/app", "write", path, "x").Run()
	}
	for _, path := range []string{"/tmp/x", "/state/x"} {
		if err := write(path); err != nil {
			t.Errorf("writing %s: %v", path, err)
		}
	}
	for _, path := range []string{"/x", "/content/x"} {
		if write(path) == nil {
			t.Errorf("%s was written, though it is read-only", path)
		}
	}
}

// asksResolversOfItsOwn: the engine's name server, which containers are told
// of otherwise, is not reached.
func asksResolversOfItsOwn(t *testing.T, r *rig, image string) {
	req := request(repotest.New(t, map[string]string{"compose.yaml": `services: {web: {image: "` + image + `", command: [serve, "8080", x], dns: [192.0.2.53]}}`}))
	req.Profile = "profile.gvisor-open"
	box := r.create(t, req)
	if got := get(t, r.Client, box.ID, "web", 8080, "/file?path=/etc/resolv.conf"); got != "nameserver 192.0.2.53\n" {
		t.Errorf("asks %q", got)
	}
}

// goesThroughTheProxy: the proxy is ours and runs under the engine's own runtime.
func goesThroughTheProxy(t *testing.T, r *rig, image string) {
	req := request(repotest.New(t, map[string]string{"compose.yaml": `services: {web: {image: "` + image + `", command: [serve, "8080", x]}}`}))
	req.Profile = "profile.gvisor-listed"
	box := r.create(t, req)
	if line := r.probe(t, box.ID, "get:http://elsewhere.invalid/")[0]; !strings.Contains(line, "403") {
		t.Errorf("from inside: %s, want the proxy's refusal", line)
	}
}

func runsUnderRunc(t *testing.T, r *rig, image string) {
	box := r.create(t, request(repotest.New(t, map[string]string{"compose.yaml": `services: {web: {image: "` + image + `", command: [serve, "8080", x]}}`})))
	if got := runtimesOf(t, box.ID); !slices.Equal(got, []string{"runc"}) {
		t.Errorf("containers run under %q", got)
	}
	wantControl(t, box, "isolation", sandboxer.Enforced, "runc")
}

// TestContainersAreConfined reads what the kernel says of a program inside.
func TestContainersAreConfined(t *testing.T) {
	t.Parallel()
	r := localRig(t)
	box := r.create(t, request(repotest.New(t, map[string]string{"compose.yaml": `
services:
  web: {build: ., command: [serve, "8080", x]}
  bare: {build: ., command: [serve, "8080", x], cap_drop: [ALL], cap_add: [CHOWN, NET_RAW]}
`})))
	// include/uapi/linux/capability.h
	const chown, setuid, netBindService, netRaw, mknod, auditWrite = 1 << 0, 1 << 7, 1 << 10, 1 << 13, 1 << 27, 1 << 29
	for service, want := range map[string]struct{ has, lacks uint64 }{
		"web":  {has: chown | setuid | netBindService, lacks: netRaw | mknod | auditWrite},
		"bare": {has: chown, lacks: ^uint64(chown)},
	} {
		status := map[string]string{}
		for line := range strings.Lines(get(t, r.Client, box.ID, service, 8080, "/file?path=/proc/self/status")) {
			name, value, _ := strings.Cut(line, ":")
			status[name] = strings.TrimSpace(value)
		}
		bounding, err := strconv.ParseUint(status["CapBnd"], 16, 64)
		if err != nil || bounding&want.has != want.has || bounding&want.lacks != 0 {
			t.Errorf("%s may have the capabilities %s", service, status["CapBnd"])
		}
		if status["NoNewPrivs"] != "1" || status["Seccomp"] != "2" {
			t.Errorf("%s has NoNewPrivs %q and Seccomp %q, want 1 and 2", service, status["NoNewPrivs"], status["Seccomp"])
		}
	}
	wantControl(t, box, "isolation", sandboxer.Enforced, "kernel of the host")
	wantControl(t, box, "isolation.no_new_privileges", sandboxer.Enforced, "")
	wantControl(t, box, "isolation.capabilities", sandboxer.Enforced, "NET_RAW")
}

// TestIsolationThatNoHostOffers is refused before anything is created, and says what there is.
func TestIsolationThatNoHostOffers(t *testing.T) {
	r := localRig(t)
	repo := repotest.New(t, map[string]string{"compose.yaml": `services: {web: {build: ., command: [serve, "8080", x]}}`})
	want := map[string]string{"profile.vm": "isolation vm: not supported by ext.compose-ssh, which offers container, gvisor"}
	if !strings.Contains(dockerDo(t, "info", "--format", "{{json .Runtimes}}"), "runsc") {
		want["profile.gvisor"] = "isolation gvisor: not supported by host here, which offers container"
	}
	for profile, reason := range want {
		req := request(repo)
		req.Profile = profile
		s, err := r.Create(t.Context(), req)
		var route *sandboxer.RouteError
		if s != nil || !errors.Is(err, sandboxer.ErrUnsupported) || !errors.As(err, &route) || route.Route.Candidates[0].Rejected != reason {
			t.Errorf("%s: created %v, %v; want %s", profile, s, err, reason)
		}
	}
	r.assertRootEmpty(t)
}
