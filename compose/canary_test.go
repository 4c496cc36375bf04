package compose_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/internal/repotest"
	"github.com/sand-boxer/sandboxer/oteltrace"
	"github.com/sand-boxer/sandboxer/profiles"
	"github.com/sand-boxer/sandboxer/sqlstore"
	"github.com/sand-boxer/sandboxer/statehub"
)

// canaries are values of secrets that are found wherever they should not be.
type canaries struct {
	mu     sync.Mutex
	values map[string]string
	forms  []string
	seen   map[string]bool
}

func newCanaries(names ...string) *canaries {
	c := &canaries{values: map[string]string{}, seen: map[string]bool{}}
	for _, name := range names {
		c.renew(name)
	}
	return c
}

// renew gives a secret a new value, of two lines with what shells, YAML, URLs
// and JSON write otherwise.
func (c *canaries) renew(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	bird := "canary-" + rand.Text()
	value := bird + "$'\"{}%:@\n-----" + bird + "-----\n"
	c.values[name] = value
	c.forms = append(c.forms, bird, base64.StdEncoding.EncodeToString([]byte(value)), base64.StdEncoding.EncodeToString([]byte(bird)))
}

// ResolveSecret implements [sandboxer.SecretResolver].
func (c *canaries) ResolveSecret(_ context.Context, req sandboxer.SecretRequest) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	value, ok := c.values[req.Name]
	if !ok {
		return nil, sandboxer.ErrNotFound
	}
	return []byte(value), nil
}

// look reports, once, that a value is in a text it should not be in.
func (c *canaries) look(t *testing.T, where string, text []byte) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, form := range c.forms {
		if i := bytes.Index(text, []byte(form)); i >= 0 && !c.seen[where] {
			c.seen[where] = true
			t.Errorf("a secret is in %s: …%q…", where, text[max(0, i-80):min(len(text), i+40)])
		}
	}
}

// A wire takes down everything that leaves the client: progress, log, spans
// and what a State Hub is sent.
type wire struct {
	mu    sync.Mutex
	texts map[string]*bytes.Buffer
	spans *tracetest.SpanRecorder
}

func (w *wire) write(where string, text []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.texts[where] == nil {
		w.texts[where] = new(bytes.Buffer)
	}
	w.texts[where].Write(append(text, '\n'))
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

// secretRig is a client over real SSH whose every output is taken down.
func secretRig(t *testing.T, birds *canaries) (*rig, *wire, string) {
	t.Helper()
	r, _ := sshRig(t)
	w := &wire{texts: map[string]*bytes.Buffer{}, spans: tracetest.NewSpanRecorder()}
	hub := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		w.write("what the State Hub is sent", append([]byte(req.URL.String()+fmt.Sprint(req.Header)), body...))
	}))
	t.Cleanup(hub.Close)
	sink, err := statehub.New(statehub.Config{URL: hub.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close() })
	db := filepath.Join(t.TempDir(), "records.db")
	store, err := sqlstore.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	ext, err := compose.New(compose.Config{Hosts: []compose.HostConfig{r.host}})
	if err != nil {
		t.Fatal(err)
	}
	known, err := profiles.Load()
	if err != nil {
		t.Fatal(err)
	}
	p := known[0]
	p.Setup.SecretRefs = []string{"DB_PASSWORD", "token", "cert"}
	r.Client, err = sandboxer.New(sandboxer.Config{
		Extensions: []sandboxer.Extension{ext}, Profiles: []sandboxer.Profile{p}, Store: store, Secrets: birds, Sink: sink,
		Logger: slog.New(slog.NewTextHandler(writer(func(p []byte) { w.write("the log", p) }), &slog.HandlerOptions{Level: slog.LevelDebug})),
		Tracer: oteltrace.New(sdk.NewTracerProvider(sdk.WithSpanProcessor(w.spans))),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Client.Close() })
	return r, w, db
}

// heard is ctx with its progress taken down.
func (w *wire) heard(ctx context.Context) context.Context {
	return sandboxer.WithProgress(ctx, func(p sandboxer.Progress) { w.write("progress", []byte(fmt.Sprintf("%+v", p))) })
}

// look searches all that left the client.
func (w *wire) look(t *testing.T, birds *canaries) {
	t.Helper()
	for _, s := range w.spans.Ended() {
		birds.look(t, "span "+s.Name(), []byte(fmt.Sprint(s.Name(), s.Attributes(), s.Events(), s.Status())))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, where := range []string{"what the State Hub is sent", "the log", "progress"} {
		if w.texts[where] == nil {
			t.Errorf("%s is not taken down", where)
			continue
		}
		birds.look(t, where, w.texts[where].Bytes())
	}
}

// watchProcesses looks at the arguments and the environment of every process
// of this machine, which is the host as well, until stop is called.
func watchProcesses(t *testing.T, birds *canaries) (stop func()) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan struct{})
	looks := 0
	go func() {
		defer close(ended)
		for ; ; looks++ {
			select {
			case <-done:
				return
			case <-time.After(2 * time.Millisecond):
			}
			processes, _ := filepath.Glob("/proc/[0-9]*")
			for _, process := range processes {
				for _, file := range []string{"cmdline", "environ"} {
					text, _ := os.ReadFile(filepath.Join(process, file))
					birds.look(t, "the "+file+" of a process", text)
				}
			}
		}
	}()
	return func() {
		close(done)
		<-ended
		if looks < 20 {
			t.Errorf("looked at processes only %d times", looks)
		}
	}
}

// lookAtHost searches everything of the sandbox on the engine and in files.
func lookAtHost(t *testing.T, r *rig, id string, birds *canaries) {
	t.Helper()
	label := "label=dev.sandboxer.id=" + id
	shell := func(script string) []byte {
		out, err := exec.Command("sh", "-c", script).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", script, err, out)
		}
		return out
	}
	for where, script := range map[string]string{
		"docker inspect of containers": "docker inspect $(docker ps -aq --filter " + label + ")",
		"docker inspect of networks":   "docker network inspect $(docker network ls -q --filter " + label + ")",
		"docker inspect of images":     "docker image inspect $(docker image ls -aq --filter " + label + ")",
		"the history of images":        "for i in $(docker image ls -aq --filter " + label + "); do docker history --no-trunc $i; done",
		"docker ps":                    "docker ps -a --no-trunc --filter " + label + " --format '{{json .}}'",
		"docker compose config":        "docker compose -p sbx-" + id + " --env-file /dev/null -f " + r.root + "/sb/" + id + "/compose.yaml config",
		"docker top":                   "for c in $(docker ps -q --filter " + label + "); do docker top $c -eo pid,args; done",
		"the log of a service":         "for c in $(docker ps -aq --filter " + label + "); do docker logs $c; done",
	} {
		out := shell(script)
		if len(bytes.TrimSpace(out)) < 10 {
			t.Errorf("%s says nothing: %q", where, out)
		}
		birds.look(t, where, out)
	}
	lookInside(t, birds, "the layers of images", shell("docker save $(docker image ls -q --filter "+label+")"))
	for _, c := range strings.Fields(string(shell("docker ps -aq --filter " + label))) {
		lookInside(t, birds, "the writable layer of a container", shell("docker export "+c))
	}
	files, began := 0, time.Now().Add(-10*time.Minute)
	for _, dir := range []string{r.root, "/tmp", "/var/lib/docker/containers"} {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			if info, err := d.Info(); err != nil || info.ModTime().Before(began) { // of others
				return nil
			}
			files++
			if text, err := os.ReadFile(path); err == nil {
				birds.look(t, "the file "+path, text)
			}
			return nil
		})
	}
	if files < 10 {
		t.Errorf("only %d files of the host were searched", files)
	}
}

// lookInside searches an archive and the archives in it.
func lookInside(t *testing.T, birds *canaries, where string, archive []byte) {
	t.Helper()
	birds.look(t, where, archive)
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err != nil {
			return
		}
		if strings.HasSuffix(h.Name, ".tar") {
			layer, _ := io.ReadAll(r)
			lookInside(t, birds, where, layer)
		}
	}
}

// lookAtRecords searches the database's own bytes and all that the client
// tells of a sandbox.
func lookAtRecords(t *testing.T, c *sandboxer.Client, id, db string, birds *canaries) {
	t.Helper()
	files, _ := filepath.Glob(db + "*")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		birds.look(t, "the database", text)
	}
	events, err := c.Events(t.Context(), id, 0)
	if err != nil {
		t.Error(err)
	}
	recorded, err := c.Get(t.Context(), id)
	if err != nil {
		t.Error(err)
	}
	seen, err := c.Inspect(t.Context(), id)
	if err != nil {
		t.Error(err)
	}
	for where, v := range map[string]any{"the events": events, "the record": recorded, "what is seen of it": seen} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		birds.look(t, where, append(text, fmt.Sprintf("%+v %#v", v, v)...))
	}
}

const secretsCompose = `
services:
  root:
    build: .
    command: [serve, "8080", hello]
    secrets: [password, {source: token, target: /etc/app/token}]
  number:
    build: .
    user: "1234:1234"
    command: [serve, "8080", hello]
    secrets: [password]
  image:
    build: {context: ., dockerfile: user.Dockerfile}
    command: [serve, "8080", hello]
    cap_drop: [ALL]
    secrets: [cert]
secrets:
  password: {environment: DB_PASSWORD}
  token: {external: true}
  cert: {file: ./not-in-the-repository.pem}
`

// TestSecretsAreNowhereElse gives secrets to services over a real SSH
// connection, for users of three kinds, and then looks for them everywhere.
func TestSecretsAreNowhereElse(t *testing.T) {
	t.Parallel()
	birds := newCanaries("DB_PASSWORD", "token", "cert")
	r, w, db := secretRig(t, birds)
	repo := repotest.New(t, map[string]string{"compose.yaml": secretsCompose, "user.Dockerfile": strings.Replace(repotest.Dockerfile, "ENTRYPOINT", "USER 4321\nENTRYPOINT", 1)})
	stop := watchProcesses(t, birds)
	plan, err := r.Plan(w.heard(t.Context()), request(repo), sandboxer.PlanOptions{Probe: true})
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(plan)
	birds.look(t, "the plan", text)
	box, err := r.Create(w.heard(t.Context()), request(repo))
	if box != nil {
		t.Cleanup(func() { r.destroy(t, box.ID) })
	}
	if err != nil {
		t.Fatalf("create: %v\n%s", err, logOf(err))
	}
	read := func() {
		t.Helper()
		for path, name := range map[string]string{
			"root /run/secrets/password": "DB_PASSWORD", "root /etc/app/token": "token", "number /run/secrets/password": "DB_PASSWORD", "image /run/secrets/cert": "cert",
		} {
			service, file, _ := strings.Cut(path, " ")
			if got := get(t, r.Client, box.ID, service, 8080, "/file?path="+file); got != birds.values[name] {
				t.Errorf("%s reads %q in %s, want the value of %s", service, got, file, name)
			}
		}
	}
	read()
	lookAtHost(t, r, box.ID, birds)
	checkModes(t, box.ID)
	if box.Controls == nil || !strings.Contains(fmt.Sprint(box.Controls), "{secrets.storage enforced in memory") {
		t.Errorf("controls: %+v", box.Controls)
	}
	if out, err := exec.Command("docker", "restart", "-t", "1", "sbx-"+box.ID+"-root-1").CombinedOutput(); err != nil {
		t.Errorf("a service does not start again: %v: %s", err, out)
	}

	lose(t, box.ID) // as a restart of the host does
	if seen, err := r.Inspect(t.Context(), box.ID); err != nil || !strings.Contains(seen.Observed.Detail, "its secrets are gone") {
		t.Errorf("without its secrets: %v, %+v", err, seen.Observed)
	}
	birds.renew("DB_PASSWORD")
	if _, err := r.Recreate(w.heard(t.Context()), box.ID); err != nil {
		t.Fatalf("recreate: %v\n%s", err, logOf(err))
	}
	read()
	lookAtHost(t, r, box.ID, birds)
	stop()
	if _, err := r.Deliver(t.Context()); err != nil {
		t.Error(err)
	}
	lookAtRecords(t, r.Client, box.ID, db, birds)
	destroyed, err := r.Destroy(w.heard(t.Context()), box.ID)
	if err != nil || !strings.Contains(fmt.Sprint(destroyed.Removal.Removed), "secrets /dev/shm/sandboxer-") {
		t.Errorf("destroy: %v, removed %v", err, destroyed.Removal)
	}
	r.assertNothing(t, box.ID)
	lookAtRecords(t, r.Client, box.ID, db, birds)
	w.look(t, birds)
}

func lose(t *testing.T, id string) {
	t.Helper()
	dirs, _ := filepath.Glob("/dev/shm/sandboxer-*/" + id)
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}
}

// checkModes looks at the files on the host: in a closed directory, and open
// to all only where the user of a service is not known.
func checkModes(t *testing.T, id string) {
	t.Helper()
	dirs, _ := filepath.Glob("/dev/shm/sandboxer-*/" + id)
	if len(dirs) != 1 {
		t.Fatalf("directories of secrets: %q", dirs)
	}
	for _, dir := range []string{dirs[0], filepath.Dir(dirs[0])} {
		if info, err := os.Stat(dir); err != nil || info.Mode() != fs.ModeDir|0o700 {
			t.Errorf("%s: %v %v", dir, info.Mode(), err)
		}
	}
	out, err := exec.Command("sh", "-c", "cd "+dirs[0]+" && stat -c '%n %a %u %g' * .[!.]* 2>/dev/null").Output()
	want := "0001-cert 444 0 0\n0002-DB_PASSWORD 400 1234 1234\n0003-DB_PASSWORD 444 0 0\n0004-token 444 0 0\n"
	if string(out) != want {
		t.Errorf("files:\n%s%v, want\n%s", out, err, want)
	}
}

// TestFailuresShowNoSecret: a service prints what it was given and ends; what
// is told of that has its log, and not the secret.
func TestFailuresShowNoSecret(t *testing.T) {
	t.Parallel()
	birds := newCanaries("DB_PASSWORD", "token", "cert")
	r, w, db := secretRig(t, birds)
	for name, service := range map[string]string{
		"ends":      `{build: ., command: [show, /run/secrets/password, "3"], secrets: [password]}`,
		"unhealthy": `{build: ., command: [serve, "8080", x], secrets: [password], healthcheck: {test: [CMD, /app, show, /run/secrets/password, "1"], interval: 1s, retries: 1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			repo := repotest.New(t, map[string]string{"compose.yaml": "services:\n  web: " + service + "\nsecrets: {password: {environment: DB_PASSWORD}}\n"})
			box, err := r.Create(w.heard(t.Context()), request(repo))
			if err == nil {
				t.Fatal("it came up")
			}
			if box == nil {
				t.Fatal(err)
			}
			told := fmt.Sprintf("%v %+v %#v %s %s", err, err, err, sandboxer.Hint(err), logOf(err))
			birds.look(t, "the error", []byte(told))
			if box.Failure == nil || !strings.Contains(told+box.Failure.Log, "[secret DB_PASSWORD]") {
				t.Errorf("nothing was taken out: %s %+v", told, box.Failure)
			}
			if _, err := r.Deliver(t.Context()); err != nil {
				t.Error(err)
			}
			lookAtRecords(t, r.Client, box.ID, db, birds)
			r.assertNothing(t, box.ID)
		})
	}
	w.look(t, birds)
}
