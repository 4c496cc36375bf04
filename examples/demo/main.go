// Command demo brings two copies of one repository's compose environment up
// side by side on a real Docker Engine, asks both, destroys them and looks at
// the engine and the disk to see that nothing is left. A State Hub beside it
// shows what happens, and keeps it for later.
//
// The repository is testdata/demo-repo: an API and a store with health checks,
// a migration that runs once, a named volume, an env file, a container name
// and a fixed published port, so that plain compose could not run it twice.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/profiles"
	"github.com/sand-boxer/sandboxer/sqlstore"
	"github.com/sand-boxer/sandboxer/statehub"
)

func main() {
	repo := flag.String("repo", "testdata/demo-repo", "the repository to bring up")
	host := flag.String("host", "local:", "where: local: or ssh://user@host:port")
	copies := flag.Int("copies", 2, "how many at once")
	hubDB := flag.String("hub-db", ".cache/demo-hub.db", "where the State Hub keeps what it is told")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *repo, *host, *hubDB, *copies); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		if hint := sandboxer.Hint(err); hint != "" {
			fmt.Fprintln(os.Stderr, " ", hint)
		}
		os.Exit(1)
	}
}

type demo struct {
	*sandboxer.Client
	hub   string // address of the State Hub
	began time.Time
	mu    sync.Mutex
}

func (d *demo) say(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Printf("%5.1fs  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

func run(ctx context.Context, repo, address, hubDB string, copies int) error {
	d := &demo{began: time.Now()}
	d.say("compiling the repository's programs, which its images are built from")
	if out, err := exec.CommandContext(ctx, "sh", filepath.Join(repo, "build.sh")).CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w: %s", repo, err, out)
	}
	scratch, err := os.MkdirTemp("", "sandboxer-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	closeHub, err := d.openHub(hubDB)
	if err != nil {
		return err
	}
	defer closeHub()
	if err := d.open(ctx, scratch, address); err != nil {
		return err
	}
	defer d.Close()
	stopDelivery := d.deliverBeside(ctx)
	defer stopDelivery() // before the client closes

	boxes, err := d.create(ctx, repo, copies)
	if err == nil {
		err = d.ask(ctx, boxes)
	}
	err = errors.Join(err, d.destroy(context.WithoutCancel(ctx), boxes))
	if err == nil {
		err = d.lookForLeftovers(ctx, scratch, boxes)
	}
	stopDelivery()
	if err == nil {
		err = d.askHub(ctx, boxes)
	}
	if err == nil {
		d.say("done; to see the history: go run ./examples/statehub --db %s", hubDB)
	}
	return err
}

// open keeps records and, for this machine, the host's directory in scratch.
func (d *demo) open(ctx context.Context, scratch, address string) error {
	store, err := sqlstore.Open(ctx, filepath.Join(scratch, "sandboxer.db"))
	if err != nil {
		return err
	}
	host, err := compose.ParseHost(address)
	if err != nil {
		return err
	}
	if address == "local:" {
		host.Root = filepath.Join(scratch, "host")
	}
	ext, err := compose.New(compose.Config{Hosts: []compose.HostConfig{host}})
	if err != nil {
		return err
	}
	known, err := profiles.Load()
	if err != nil {
		return err
	}
	sink, err := statehub.New(statehub.Config{URL: d.hub})
	if err != nil {
		return err
	}
	d.Client, err = sandboxer.New(sandboxer.Config{Extensions: []sandboxer.Extension{ext}, Profiles: known, Store: store, Sink: sink})
	return err
}

// create brings all copies up at once; it returns those that exist, also with an error.
func (d *demo) create(ctx context.Context, repo string, copies int) ([]*sandboxer.Sandbox, error) {
	boxes, errs := make([]*sandboxer.Sandbox, copies), make([]error, copies)
	var all sync.WaitGroup
	for i := range copies {
		all.Go(func() {
			name := fmt.Sprintf("copy %d", i+1)
			boxes[i], errs[i] = d.Create(sandboxer.WithProgress(ctx, d.stages(name)), sandboxer.CreateRequest{
				Profile:  "profile.compose-e2e",
				Inputs:   map[string]string{"repo": repo},
				Consumer: sandboxer.Consumer{Project: "demo", ActorType: sandboxer.ActorAutomation, Actor: "make-demo", Run: fmt.Sprint(i + 1)},
			})
			if errs[i] == nil {
				d.say("%s  is ready: sandbox %s on host %s (%s)", name, boxes[i].ID, boxes[i].Host, boxes[i].Route.Reason)
			}
		})
	}
	all.Wait()
	var existing []*sandboxer.Sandbox
	for _, b := range boxes {
		if b != nil {
			existing = append(existing, b)
		}
	}
	return existing, errors.Join(errs...)
}

// stages reports every new stage once.
func (d *demo) stages(name string) func(sandboxer.Progress) {
	last := ""
	var mu sync.Mutex
	return func(p sandboxer.Progress) {
		mu.Lock()
		defer mu.Unlock()
		if p.Stage != last {
			last = p.Stage
			d.say("%s  %s", name, strings.TrimSpace(p.Stage+"  "+p.Message))
		}
	}
}

// ask sends one request to the API of each copy; the answers must differ.
func (d *demo) ask(ctx context.Context, boxes []*sandboxer.Sandbox) error {
	seen := map[string]string{}
	for _, box := range boxes {
		client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.Dial(ctx, box.ID, "api", 8080)
		}}}
		body, err := get(ctx, &client)
		client.CloseIdleConnections()
		if err != nil {
			return fmt.Errorf("asking %s: %w", box.ID, err)
		}
		d.say("%s answers %s", box.ID, body)
		var answer struct {
			Instance string `json:"instance"`
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Instance == "" {
			return fmt.Errorf("%s did not say which instance it is: %s", box.ID, body)
		}
		if other, same := seen[answer.Instance]; same {
			return fmt.Errorf("%s and %s are the same instance", other, box.ID)
		}
		seen[answer.Instance] = box.ID
	}
	d.say("%d copies of one repository, %d distinct answers, no port published", len(boxes), len(seen))
	return nil
}

func get(ctx context.Context, client *http.Client) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://api/", nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s: %s", resp.Status, body)
	}
	return strings.TrimSpace(string(body)), err
}

func (d *demo) destroy(ctx context.Context, boxes []*sandboxer.Sandbox) error {
	errs := make([]error, len(boxes))
	var all sync.WaitGroup
	for i, box := range boxes {
		all.Go(func() {
			gone, err := d.Destroy(ctx, box.ID)
			if errs[i] = err; err == nil && gone.Removal != nil {
				d.say("%s is %s: %d objects removed, proved absent at %s", box.ID, gone.State, len(gone.Removal.Removed), gone.Removal.VerifiedAt.Local().Format(time.TimeOnly))
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// lookForLeftovers asks the engine and the disk directly, not the library.
func (d *demo) lookForLeftovers(ctx context.Context, scratch string, boxes []*sandboxer.Sandbox) error {
	objects, files := 0, 0
	for _, kind := range []string{"container ls -aq", "network ls -q", "volume ls -q", "image ls -aq"} {
		n := 0
		for _, box := range boxes {
			args := append(strings.Fields(kind), "--filter", "label=dev.sandboxer.id="+box.ID)
			out, err := exec.CommandContext(ctx, "docker", args...).Output()
			if err != nil {
				return fmt.Errorf("docker %s: %w", kind, err)
			}
			n += len(strings.Fields(string(out)))
		}
		objects += n
		d.say("docker %-16s of these sandboxes: %d", kind, n)
	}
	for _, dir := range []string{"sb", "lock", "net", "cache/src"} {
		entries, err := os.ReadDir(filepath.Join(scratch, "host", dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		files += len(entries)
	}
	d.say("files of sandboxes in the host's directory: %d", files)
	if objects+files > 0 {
		return fmt.Errorf("%d objects and %d files are left", objects, files)
	}
	return nil
}
