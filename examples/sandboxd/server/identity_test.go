package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/server"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

// people is a server that knows an agent of the project shop, two of blog, and
// an administrator; keyed by actor.
func people(t testing.TB, w *world) map[string]*rig {
	t.Helper()
	var cfg server.Config
	given := map[string]string{}
	for _, token := range []server.Token{
		{Project: "shop", ActorType: "agt", Actor: "builder", Quota: 2},
		{Project: "blog", ActorType: "agt", Actor: "writer"},
		{Project: "blog", ActorType: "atm", Actor: "ci"},
		{Project: "ops", ActorType: "adm", Actor: "root", Admin: true},
	} {
		given[token.Actor], token.SHA256 = server.NewToken()
		cfg.Tokens = append(cfg.Tokens, token)
	}
	r := w.start(t, cfg)
	all := map[string]*rig{"nobody": r}
	for actor, token := range given {
		all[actor] = r.as(token)
	}
	return all
}

func TestTokensAreNeeded(t *testing.T) {
	all := people(t, newWorld(t))
	nobody := all["nobody"]
	for _, o := range api.Operations() {
		if o.Method != http.MethodGet || strings.Contains(o.Path, "{id}") {
			continue
		}
		a := nobody.get(o.DocumentPath())
		if o.Open {
			a.want(t, http.StatusOK)
			continue
		}
		if a.problem(t, http.StatusUnauthorized, "unauthorized"); a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s does not say how", o.ID)
		}
	}
	nobody.as("sbx_wrong").get("/v1/sandboxes").problem(t, http.StatusUnauthorized, "unauthorized")
	nobody.get("/v1/sandboxes", "Authorization", "Basic "+all["ci"].token).problem(t, http.StatusUnauthorized, "unauthorized")
	all["ci"].get("/metrics").problem(t, http.StatusForbidden, "forbidden")
	all["root"].get("/metrics").want(t, http.StatusOK)
	// a page of another origin has no token to send
	all["ci"].get("/v1/sandboxes", "Origin", "http://other.example", "Host", "sandboxes.example").want(t, http.StatusOK)
}

// A token is on whose account everything is; only an administrator may say another.
func TestNobodyClaimsAnothersIdentity(t *testing.T) {
	w := newWorld(t)
	all := people(t, w)
	claim := func(who, consumer string) answer {
		return all[who].send("POST", "/v1/sandboxes", `{"profile":"profile.compose-e2e","inputs":{"repo":"."},"consumer":`+consumer+`}`)
	}
	if got := claim("builder", `{"run":"r7"}`).want(t, 201).sandbox(t).Consumer; got != (sandboxer.Consumer{Project: "shop", ActorType: "agt", Actor: "builder", Run: "r7"}) {
		t.Errorf("its own: %v", got)
	}
	claim("writer", `{"project":"blog","actor_type":"agt","actor":"writer"}`).want(t, 201)
	for _, c := range []string{`{"project":"shop"}`, `{"actor_type":"adm"}`, `{"actor":"ci"}`, `{"project":"shop","actor_type":"agt","actor":"builder"}`} {
		claim("writer", c).problem(t, http.StatusForbidden, "forbidden")
		all["writer"].send("POST", "/v1/plan", `{"profile":"profile.compose-e2e","inputs":{"repo":"."},"consumer":`+c+`}`).problem(t, http.StatusForbidden, "forbidden")
	}
	if got := claim("root", `{"project":"shop","actor_type":"atm","actor":"night"}`).want(t, 201).sandbox(t).Consumer.Project; got != "shop" {
		t.Errorf("an administrator's: %s", got)
	}
	if n := len(w.recorded(t)); n != 3 {
		t.Errorf("there are %d sandboxes, want 3", n)
	}
}

// What belongs to another project is not there, in whatever way it is asked for.
func TestOtherProjectsAreInvisible(t *testing.T) {
	w := newWorld(t)
	all := people(t, w)
	shop, blog, ops := all["builder"], all["writer"], all["root"]
	hidden, own := shop.create("Idempotency-Key", "k"), blog.create("Idempotency-Key", "k")
	at := "/v1/sandboxes/" + hidden.ID
	absent := blog.get("/v1/sandboxes/aaaaaaaaaaaaaaaaaaaa").problem(t, 404, "not_found")
	for _, req := range [][]string{
		{"GET", at, ""}, {"GET", at + "?observe=true", ""}, {"DELETE", at, ""}, {"POST", at + "/extend", `{"ttl":"2h"}`}, {"POST", at + "/activate", ""},
		{"POST", at + "/deactivate", ""}, {"POST", at + "/recreate", ""}, {"GET", at + "/events", ""},
	} {
		var headers []string
		if strings.HasSuffix(req[1], "recreate") {
			headers = []string{"If-Match", "*"}
		}
		p := blog.send(req[0], req[1], req[2], headers...).problem(t, 404, "not_found")
		p.Detail = strings.ReplaceAll(p.Detail, hidden.ID, "aaaaaaaaaaaaaaaaaaaa")
		if diff := cmp.Diff(absent, p); diff != "" {
			t.Errorf("%s %s tells it from one that never was: %s", req[0], req[1], diff)
		}
	}
	blog.get(at+"/events", "Accept", "text/event-stream").problem(t, 404, "not_found")
	ids := func(r *rig, target string) (ids []string) {
		for _, s := range decode[api.SandboxPage](t, r.get(target).want(t, 200)).Sandboxes {
			ids = append(ids, s.ID)
		}
		return ids
	}
	for _, tt := range []struct {
		who    *rig
		target string
		want   []string
	}{
		{blog, "/v1/sandboxes", []string{own.ID}}, {blog, "/v1/sandboxes?project=shop&all=true", nil}, {all["ci"], "/v1/sandboxes", []string{own.ID}},
		{shop, "/v1/sandboxes", []string{hidden.ID}}, {ops, "/v1/sandboxes", []string{hidden.ID, own.ID}}, {ops, "/v1/sandboxes?project=shop", []string{hidden.ID}},
	} {
		if diff := cmp.Diff(tt.want, ids(tt.who, tt.target)); diff != "" {
			t.Errorf("%s: %s", tt.target, diff)
		}
	}
	for _, e := range decode[api.EventPage](t, blog.get("/v1/events")).Events {
		if e.Consumer.Project != "blog" {
			t.Errorf("an event of %s", e.Consumer.Project)
		}
	}
	if meters := decode[api.Usage](t, blog.get("/v1/usage?by=project")).Meters; len(meters) != 1 || meters[0].Key != "blog" {
		t.Errorf("usage %+v", meters)
	}
	if meters := decode[api.Usage](t, ops.get("/v1/usage?by=project")).Meters; len(meters) != 2 {
		t.Errorf("an administrator's usage %+v", meters)
	}
	// a stream of all tells only one's own, also of what happens meanwhile
	messages, leave := blog.follow("/v1/events")
	shop.send("DELETE", at, "").want(t, 200)
	blog.send("DELETE", "/v1/sandboxes/"+own.ID, "").want(t, 200)
	for {
		e, ok := next(t, messages)
		if !ok || e.Consumer.Project != "blog" {
			t.Fatalf("the stream tells %+v", e)
		}
		if e.State.Terminal() {
			break
		}
	}
	leave()
}

// As many may be alive as the quota says, however many are asked for at once.
func TestQuotas(t *testing.T) {
	w := newWorld(t)
	w.store = slowLists{w.store}
	shop := people(t, w)["builder"]
	const racers = 8
	answers := make(chan answer, racers)
	for i := range racers {
		go func() {
			a, err := shop.try(shop.request(t.Context(), "POST", "/v1/sandboxes", body, "Idempotency-Key", fmt.Sprint(i)))
			if err != nil {
				t.Error(err)
			}
			answers <- a
		}()
	}
	var made []sandboxer.Sandbox
	for range racers {
		if a := <-answers; a.status == http.StatusCreated {
			made = append(made, a.sandbox(t))
		} else {
			p := a.problem(t, http.StatusTooManyRequests, "limit")
			if p.Class != api.ClassRefused || !strings.Contains(p.Detail, "2 live sandboxes") {
				t.Errorf("problem %+v", p)
			}
		}
	}
	if len(made) != 2 || len(w.recorded(t)) != 2 {
		t.Fatalf("made %d, want 2", len(made))
	}
	// a destroyed one makes room
	shop.send("DELETE", "/v1/sandboxes/"+made[0].ID, "").want(t, 200)
	shop.create()
	shop.send("POST", "/v1/sandboxes", body).problem(t, http.StatusTooManyRequests, "limit")
}

// A quota that is used up is said before anything costs something, and does not
// stand between a key and its sandbox.
func TestAFullQuotaAsksNobody(t *testing.T) {
	w := newWorld(t)
	var probes atomic.Int64
	w.fault = func(_ context.Context, s extensiontest.Step) error {
		if s.Op == "probe" {
			probes.Add(1)
		}
		return nil
	}
	shop := people(t, w)["builder"]
	first := shop.create("Idempotency-Key", "k")
	shop.create()
	before := probes.Load()
	shop.send("POST", "/v1/sandboxes", body).problem(t, http.StatusTooManyRequests, "limit")
	shop.send("POST", "/v1/sandboxes", body, "Idempotency-Key", "other").problem(t, http.StatusTooManyRequests, "limit")
	if n := probes.Load() - before; n > 0 {
		t.Errorf("the hosts were asked %d times", n)
	}
	if again := shop.send("POST", "/v1/sandboxes", body, "Idempotency-Key", "k").want(t, http.StatusOK).sandbox(t); again.ID != first.ID {
		t.Errorf("the key leads to %s, want %s", again.ID, first.ID)
	}
}

// slowLists gives those who count at once time to be wrong.
type slowLists struct{ sandboxer.Store }

func (s slowLists) List(ctx context.Context, f sandboxer.Filter) ([]*sandboxer.Record, error) {
	all, err := s.Store.List(ctx, f)
	time.Sleep(20 * time.Millisecond)
	return all, err
}

// A link does not lead out of the directory of workspaces.
func TestWorkspaces(t *testing.T) {
	w := newWorld(t)
	outside := t.TempDir()
	inside := filepath.Join(w.work, "shop")
	for _, err := range []error{os.Mkdir(inside, 0o700), os.Symlink(outside, filepath.Join(w.work, "out")), os.Symlink(inside, filepath.Join(w.work, "in"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r := w.start(t, server.Config{})
	for repo, want := range map[string]string{"shop": inside, "in": inside, inside: inside, "./shop/../shop": inside, "none": filepath.Join(w.work, "none")} {
		s := r.send("POST", "/v1/sandboxes", fmt.Sprintf(`{"profile":"profile.compose-e2e","inputs":{"repo":%q}}`, repo)).want(t, 201).sandbox(t)
		if s.Inputs["repo"] != want {
			t.Errorf("%s becomes %s", repo, s.Inputs["repo"])
		}
	}
	for _, repo := range []string{"out", "out/x", outside, "shop/../..", "/"} {
		r.send("POST", "/v1/plan", fmt.Sprintf(`{"profile":"profile.compose-e2e","inputs":{"repo":%q}}`, repo)).problem(t, http.StatusForbidden, "forbidden")
	}
}

// Nor does one that was planted once a sandbox of the tree was there.
func TestWorkspacesOfARecreate(t *testing.T) {
	outside := t.TempDir()
	for _, err := range []error{os.MkdirAll(filepath.Join(outside, "tree"), 0o700), os.WriteFile(filepath.Join(outside, "secret"), nil, 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name  string
		plant func(team string) error // what was done to the directory of shop/tree
		want  int
	}{
		{"as it was", func(string) error { return nil }, http.StatusOK},
		{"another tree", func(team string) error {
			return errors.Join(os.Remove(filepath.Join(team, "tree")), os.Mkdir(filepath.Join(team, "tree"), 0o700))
		}, http.StatusOK},
		{"a link at the end", func(team string) error {
			return errors.Join(os.Remove(filepath.Join(team, "tree")), os.Symlink(outside, filepath.Join(team, "tree")))
		}, http.StatusForbidden},
		{"a link above", func(team string) error { return errors.Join(os.RemoveAll(team), os.Symlink(outside, team)) }, http.StatusForbidden},
		{"a link that leads nowhere", func(team string) error {
			return errors.Join(os.Remove(filepath.Join(team, "tree")), os.Symlink("tree", filepath.Join(team, "tree")))
		}, http.StatusForbidden},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			team := filepath.Join(w.work, "shop")
			if err := os.MkdirAll(filepath.Join(team, "tree"), 0o700); err != nil {
				t.Fatal(err)
			}
			r := w.start(t, server.Config{})
			s := r.send("POST", "/v1/sandboxes", `{"profile":"profile.compose-e2e","inputs":{"repo":"shop/tree"}}`).want(t, 201).sandbox(t)
			if err := tt.plant(team); err != nil {
				t.Fatal(err)
			}
			a := r.send("POST", "/v1/sandboxes/"+s.ID+"/recreate", "", "If-Match", "*")
			if tt.want != http.StatusOK {
				a.problem(t, tt.want, "forbidden")
			}
			a.want(t, tt.want)
			r.get("/v1/sandboxes/"+s.ID).want(t, 200)
		})
	}
}

func TestParseTokens(t *testing.T) {
	_, sum := server.NewToken()
	entry := "- sha256: " + sum + "\n  project: shop\n  actor_type: agt\n  actor: ci\n"
	good, err := server.ParseTokens("tokens.yaml", []byte("tokens:\n"+entry+"  quota: 3\n"))
	if err != nil || len(good) != 1 || good[0].Quota != 3 || good[0].Actor != "ci" {
		t.Errorf("got %+v, %v", good, err)
	}
	for _, tt := range []struct{ name, text, says string }{
		{"nobody", "tokens: []\n", "tokens.yaml: tokens: has none"},
		{"unknown key", "tokens:\n" + entry + "  role: x\n", "tokens.yaml:6: tokens[0].role"},
		{"no sum", "tokens:\n- sha256: abc\n  project: shop\n", "tokens[0]: sha256"},
		{"no consumer", "tokens:\n- sha256: " + sum + "\n", "consumer.project"},
		{"twice", "tokens:\n" + entry + entry, "given twice"},
		{"negative quota", "tokens:\n" + entry + "  quota: -1\n", "quota"},
		{"an administrator's quota", "tokens:\n" + entry + "  quota: 1\n  admin: true\n", "tokens[0]: quota: does not go with admin"},
		{"no directory", "tokens:\n" + entry + "  workspaces: /none/such\n", "directory of workspaces"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := server.ParseTokens("tokens.yaml", []byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %s", err, tt.says)
			}
		})
	}
}
