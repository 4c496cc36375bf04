package compose_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/repotest"
)

// TestCopies brings copies of one repository up at once, on a host with the
// engine's default settings. The repository has a fixed published port and a
// container name, so plain compose could not run it twice.
// Two run the file as it is.
func TestCopies(t *testing.T) {
	for _, copies := range []int{2, 20} {
		t.Run(fmt.Sprint(copies), func(t *testing.T) {
			if copies > 2 && testing.Short() {
				t.Skip("many copies take minutes")
			}
			r := localRig(t)
			repo := repotest.Demo(t)
			if copies > 2 {
				askLessOften(t, repo)
			}
			boxes := r.createAll(t, repo, copies)
			assertNothingPublished(t)
			answers := map[string]bool{}
			for _, box := range boxes {
				var answer struct{ Instance, Greeting string }
				text := get(t, r.Client, box.ID, "api", 8080, "/")
				if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.Instance == "" {
					t.Errorf("%s answered %q: %v", box.ID, text, err)
				}
				answers[answer.Instance] = true
			}
			if len(answers) != copies {
				t.Errorf("%d copies gave %d distinct answers", copies, len(answers))
			}
			r.destroyAll(t, boxes)
			r.assertRootEmpty(t)
		})
	}
}

// askLessOften has a repository's services be checked every 10 seconds: forty
// checks every second, each a start of a process in a container, are more than
// a small machine can do, whoever brings the copies up.
func askLessOften(t *testing.T, repo string) {
	t.Helper()
	file := filepath.Join(repo, "e2e/compose.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	slower := strings.NewReplacer("interval: 1s", "interval: 10s", "timeout: 2s", "timeout: 10s").Replace(string(text))
	if slower == string(text) {
		t.Fatalf("%s has no health checks to slow down", file)
	}
	repotest.Write(t, file, slower, 0o644)
}

func (r *rig) createAll(t *testing.T, repo string, copies int) []*sandboxer.Sandbox {
	t.Helper()
	boxes, errs := make([]*sandboxer.Sandbox, copies), make([]error, copies)
	var all sync.WaitGroup
	for i := range copies {
		all.Go(func() { boxes[i], errs[i] = r.Create(t.Context(), request(repo)) })
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("copy %d: %v\n%s", i, err, logOf(err))
		}
	}
	t.Cleanup(func() { r.destroyAll(t, boxes) })
	if t.Failed() {
		t.FailNow()
	}
	return boxes
}

func (r *rig) destroyAll(t *testing.T, boxes []*sandboxer.Sandbox) {
	var all sync.WaitGroup
	for _, box := range boxes {
		if box != nil {
			all.Go(func() { r.destroy(t, box.ID) })
		}
	}
	all.Wait()
}

// assertNothingPublished looks at the engine: no container of ours may have a
// port on the host.
func assertNothingPublished(t *testing.T) {
	t.Helper()
	out, err := exec.Command("docker", "ps", "--filter", "label=dev.sandboxer.id", "--format", "{{.Names}} {{.Ports}}").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "->") {
			t.Errorf("published on the host: %s", line)
		}
	}
}

// TestHonestFilesBehaveAsWithPlainCompose checks what a program sees: its
// environment, files, aliases and volumes.
func TestHonestFilesBehaveAsWithPlainCompose(t *testing.T) {
	t.Parallel()
	r, _ := sshRig(t)
	repo := repotest.New(t, map[string]string{
		"compose.yaml": `
services:
  web:
    build: {context: ., args: {UNUSED: x}}
    container_name: fixed-name
    command: [serve, "8080", "price $$5 ${WORD:-none}"]
    env_file: settings.env
    environment: {DOLLARS: "a$$b", FROM_DOTENV: "${DOT}"}
    ports: ["80:8080", "127.0.0.1:443:8080"]
    volumes: ["./content:/content:ro", "state:/state", "/srv/no-such-data/shared:/shared:ro"]
    configs: [{source: motd, target: /motd}]
    secrets: [token]
    restart: always
    depends_on: {seed: {condition: service_completed_successfully}}
  seed:
    build: .
    command: [write, /state/seed, planted]
    volumes: ["state:/state"]
    depends_on: {share: {condition: service_completed_successfully}}
  share:
    build: .
    command: [write, /shared/file, handed over]
    volumes: ["/srv/no-such-data/shared:/shared"]
volumes: {state: {}}
configs: {motd: {content: "welcome $$HOME\n"}}
secrets: {token: {file: ./token.txt}}
`,
		"settings.env": "FROM_FILE=yes # comment\n", ".env": "DOT=dotted\nCOMPOSE_PROJECT_NAME=evil\n",
		"content/page.txt": "page", "token.txt": "s3cret",
	})
	// A link that leads out is the container's own to follow.
	if err := os.Symlink("/state/seed", filepath.Join(repo, "content/link")); err != nil {
		t.Fatal(err)
	}
	box := r.create(t, request(repo))
	for path, want := range map[string]string{
		"/": "price $5 none", "/file?path=/content/page.txt": "page", "/file?path=/state/seed": "planted",
		"/file?path=/content/link": "planted", "/file?path=/shared/file": "handed over",
		"/file?path=/motd": "welcome $HOME\n", "/file?path=/run/secrets/token": "s3cret",
	} {
		if got := get(t, r.Client, box.ID, "web", 8080, path); got != want {
			t.Errorf("%s gives %q, want %q", path, got, want)
		}
	}
	env := get(t, r.Client, box.ID, "web", 8080, "/env")
	for _, want := range []string{"FROM_FILE=yes", "DOLLARS=a$b", "FROM_DOTENV=dotted"} {
		if !strings.Contains(env, want) {
			t.Errorf("environment lacks %q:\n%s", want, env)
		}
	}
	if box.Admission == nil || len(box.Admission.Rewrites) == 0 {
		t.Error("the record does not say what was rewritten")
	}
}

// TestFailures: each ends with a typed error that says what went wrong, and
// with nothing left.
func TestFailures(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, compose, dockerfile string
		is                        error
		says                      []string
	}{
		{"a service that exits", `services: {web: {build: ., command: [exit, "3", 100ms]}}`, "", sandboxer.ErrNotReady, []string{"web", "3"}},
		{"a service that loops", `services: {web: {build: ., restart: always, command: [exit, "4", 100ms]}}`, "", sandboxer.ErrNotReady, []string{"web", "4", "restarts"}},
		{"a service that is never healthy", `services: {web: {build: ., command: [serve, "8080", x], healthcheck: {test: [CMD, /app, health, "1"], interval: 1s, retries: 2}}}`, "", sandboxer.ErrNotReady, []string{"web", "unhealthy"}},
		{"a health check that takes too long", `services: {web: {build: ., command: [serve, "8080", x], healthcheck: {test: [CMD, /app, health, "1"], interval: 1s, retries: 100}}}`, "", sandboxer.ErrReadyTimeout, []string{"web", "starting"}},
		{"a one-shot that fails", `services: {web: {build: ., command: [serve, "8080", x], depends_on: {once: {condition: service_completed_successfully}}}, once: {build: ., command: [exit, "7", 0s]}}`, "", sandboxer.ErrNotReady, []string{"once", "7"}},
		{"a service that ends though it is to run always", `services: {web: {build: ., restart: unless-stopped, command: [exit, "0", 100ms]}}`, "", sandboxer.ErrNotReady, []string{"web", "ended with code 0", "restarts it always"}},
		{"a service that takes all memory", `services: {web: {build: ., mem_limit: 64m, command: [hog]}}`, "", sandboxer.ErrNotReady, []string{"web", "memory"}},
		{"a command that is not there", `services: {web: {build: ., entrypoint: [/missing]}}`, "", sandboxer.ErrNotReady, []string{"web", "missing"}},
		{"a build that fails", `services: {web: {build: .}}`, "FROM scratch\nCOPY nowhere /x\n", sandboxer.ErrProvision, []string{"build", "nowhere"}},
		{"an image that is not there", `services: {web: {image: "127.0.0.1:1/none:1"}}`, "", sandboxer.ErrProvision, []string{"pull"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := localRig(t)
			files := map[string]string{"compose.yaml": tt.compose}
			if tt.dockerfile != "" {
				files["Dockerfile"] = tt.dockerfile
			}
			req := request(repotest.New(t, files))
			if tt.is == sandboxer.ErrReadyTimeout {
				req.Profile = "profile.quick"
			}
			s, err := r.Create(t.Context(), req)
			if err == nil {
				t.Fatal("create succeeded")
			}
			if s == nil || s.State != sandboxer.StateDestroyed || s.Failure == nil {
				t.Errorf("sandbox is %+v, want destroyed with its failure kept", s)
			} else {
				r.assertNothing(t, s.ID)
			}
			r.assertRootEmpty(t)
			if !errors.Is(err, tt.is) {
				t.Errorf("error %v is not %v", err, tt.is)
			}
			for _, want := range tt.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			t.Logf("%v", err)
		})
	}
}

// TestKeepFailed leaves what failed standing, to look at, until it is destroyed.
func TestKeepFailed(t *testing.T) {
	t.Parallel()
	r := localRig(t)
	req := request(repotest.New(t, map[string]string{"compose.yaml": `services: {web: {build: ., command: [exit, "3", 100ms]}}`}))
	req.KeepFailed = true
	s, err := r.Create(t.Context(), req)
	if err == nil || s.State != sandboxer.StateFailed {
		t.Fatalf("create gave %+v, %v", s, err)
	}
	logs, err := r.Logs(t.Context(), s.ID, sandboxer.LogOptions{Service: "web"})
	if err != nil {
		t.Fatal(err)
	}
	if text := readAll(t, logs); !strings.Contains(text, "leaving with 3") {
		t.Errorf("logs of the failed service: %q", text)
	}
	r.destroy(t, s.ID)
	r.assertRootEmpty(t)
}

// TestLeaseIsHonouredWithoutAClient: the host ends an overdue sandbox by
// itself; the record follows.
func TestLeaseIsHonouredWithoutAClient(t *testing.T) {
	t.Parallel()
	r := localRig(t)
	req := request(repotest.New(t, map[string]string{"compose.yaml": `services: {web: {build: ., command: [serve, "8080", x]}}`}))
	req.TTL = sandboxer.Duration(time.Minute) // more than a create takes on a busy machine
	s := r.create(t, req)
	deadline := s.ExpiresAt.Add(time.Minute)
	for len(r.leftovers(s.ID)) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("a minute after its end the host still holds %v", r.leftovers(s.ID))
		}
		time.Sleep(time.Second)
	}
	if time.Now().Before(s.ExpiresAt.Truncate(time.Second)) {
		t.Errorf("gone at %v, before its end at %v", time.Now(), s.ExpiresAt)
	}
	if _, err := r.Reconcile(t.Context(), sandboxer.ReconcileOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, _ := r.Get(t.Context(), s.ID); got.State != sandboxer.StateDestroyed {
		t.Errorf("the record says %s (%s), want destroyed", got.State, got.Reason)
	}
}

// TestAdoptFromTheHostAlone: with the store lost, a host still tells what it holds.
func TestAdoptFromTheHostAlone(t *testing.T) {
	t.Parallel()
	r := localRig(t)
	s := r.create(t, request(repotest.New(t, map[string]string{"compose.yaml": `services: {web: {build: ., command: [serve, "8080", x]}}`})))
	lost := &rig{root: r.root, host: r.host, store: sandboxer.NewMemoryStore()}
	lost.Client, lost.ext = lost.another(t)
	report, err := lost.Reconcile(t.Context(), sandboxer.ReconcileOptions{})
	if err != nil || len(report.Orphans) != 1 || report.Orphans[0].Handle.SandboxID != s.ID {
		t.Fatalf("reconcile reports %+v, %v; want the orphan %s", report, err, s.ID)
	}
	report, err = lost.Reconcile(t.Context(), sandboxer.ReconcileOptions{Adopt: true})
	if err != nil || len(report.Adopted) != 1 {
		t.Fatalf("reconcile reports %+v, %v; want it adopted", report, err)
	}
	got, err := lost.Get(t.Context(), s.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.State != sandboxer.StateReady || got.Consumer != s.Consumer || !got.ExpiresAt.Equal(s.ExpiresAt.Truncate(time.Second)) {
		t.Errorf("adopted as %s for %v until %v; was ready for %v until %v", got.State, got.Consumer, got.ExpiresAt, s.Consumer, s.ExpiresAt)
	}
	lost.destroy(t, s.ID)
}

// TestDestroyAgainstRecreate: two destroy what a third recreates; one end.
func TestDestroyAgainstRecreate(t *testing.T) {
	t.Parallel()
	r := localRig(t)
	repo := repotest.New(t, map[string]string{"compose.yaml": `services: {web: {build: ., command: [serve, "8080", x]}}`})
	for round := range 3 {
		s := r.create(t, request(repo))
		one, _ := r.another(t)
		two, _ := r.another(t)
		var all sync.WaitGroup
		all.Go(func() { _, _ = r.Recreate(t.Context(), s.ID) })
		time.Sleep(time.Duration(round) * 700 * time.Millisecond)
		all.Go(func() { _, _ = one.Destroy(t.Context(), s.ID) })
		all.Go(func() { _, _ = two.Destroy(t.Context(), s.ID) })
		all.Wait()
		got, err := r.Destroy(t.Context(), s.ID)
		if err != nil || got.State != sandboxer.StateDestroyed {
			t.Errorf("round %d ends %+v, %v", round, got, err)
		}
		r.assertNothing(t, s.ID)
		assertNoGaps(t, r.Client, s.ID)
	}
	r.assertRootEmpty(t)
}

func assertNoGaps(t *testing.T, c *sandboxer.Client, id string) {
	t.Helper()
	events, err := c.Events(t.Context(), id, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range events {
		if e.Seq != int64(i+1) {
			t.Errorf("event %d has number %d", i+1, e.Seq)
		}
	}
}

// TestImageOfAnotherService: a Dockerfile starts from the image that another
// service builds, by the name it has in the file. Two copies do not meet, and
// the name means nothing on the host afterwards.
func TestImageOfAnotherService(t *testing.T) {
	r := localRig(t)
	repo := repotest.New(t, map[string]string{
		"compose.yaml": "services:\n  web: {build: ./web, command: [serve, '8080', started], depends_on: [toolbox]}\n" +
			"  toolbox: {build: ., image: sandboxer-test-toolbox, command: [serve, '8080', toolbox]}\n",
		"web/Dockerfile": "FROM sandboxer-test-toolbox\nENV ADDED=1\n",
	})
	boxes := r.createAll(t, repo, 2)
	for _, box := range boxes {
		if text := get(t, r.Client, box.ID, "web", 8080, "/"); !strings.Contains(text, "started") {
			t.Errorf("%s answered %q", box.ID, text)
		}
	}
	if out, err := exec.Command("docker", "image", "inspect", "sandboxer-test-toolbox").CombinedOutput(); err == nil {
		t.Errorf("the image is on the host by its own name: %s", out)
	}
	r.destroyAll(t, boxes)
	r.assertRootEmpty(t)
}
